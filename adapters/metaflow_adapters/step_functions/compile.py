"""``compile_flow``: from a flow file, or its manifest, to a state machine."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaflow_adapters.manifests import compile_manifest_of
from metaflow_adapters.notifications import VARIABLE_PREFIX, notified_endpoints
from metaflow_adapters.step_functions.emit.after import after_definition, followed, needs_secrets
from metaflow_adapters.step_functions.emit.documents import FOLDER, whole_document
from metaflow_adapters.step_functions.emit.events import needs_gate, pattern_of, status_pattern
from metaflow_adapters.step_functions.emit.gate import RESET, gate_definition
from metaflow_adapters.step_functions.emit.inputs import longest_input
from metaflow_adapters.step_functions.emit.job_definitions import AFTER, inline_document
from metaflow_adapters.step_functions.emit.job_settings import JobSettings
from metaflow_adapters.step_functions.emit.job_states import INLINE_INPUT, MachineContext
from metaflow_adapters.step_functions.emit.jobs import Jobs, make_jobs
from metaflow_adapters.step_functions.emit.resources import EventPattern, Resources, Rule
from metaflow_adapters.step_functions.emit.schedule import reset_of, schedule_of
from metaflow_adapters.step_functions.emit.scopes import emit_scope
from metaflow_adapters.step_functions.language.asl import Definition, MachineFields
from metaflow_adapters.step_functions.language.definition import machine_of
from metaflow_adapters.step_functions.language.jsonata import to_json
from metaflow_adapters.step_functions.permissions.needs import all_policies, needs_of
from metaflow_adapters.step_functions.plan.flow import job_kinds, plan_flow
from metaflow_adapters.step_functions.plan.names import helper_name, machine_helper_name
from metaflow_adapters.step_functions.plan.nodes import ScopePlan
from metaflow_orchestration.containers.objects import BatchObject
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import InvalidOptionError

from .limits import check_limits
from .machine import FlowMachine
from .settings import AwsSettings, aws_settings

NO_ROLE = "${EventsRoleArn}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFunctionsOptions:
    """Options of a deployment that are those of Step Functions and AWS Batch.

    :param queue: job queue of all steps, in place of those of their decorators.
    :param image: image of all steps, in place of those of their decorators.
    :param distributed: whether maps are distributed; None for those in no other map.
    :param platform: type of the queues' compute environments, by queue: ``EC2`` (the default) or ``FARGATE``.
    :param batch_tags: tags of all jobs.
    :param tag_jobs: whether jobs that have no other tags have that of their deployment, by which policies know them,
        unless a flow is too long for it. ``deploy`` leaves it out where the role of state machines may not tag.
    :param share_identifier: share of jobs in fair-share queues: that of all queues, or by queue.
    :param log_history: whether the history of runs goes to CloudWatch.
    :param gang_poll_seconds: pause between two looks at the job of a ``@parallel`` step.
    :param settings: how the installation uses AWS; Metaflow's configuration if left out.
    """

    queue: str | None = None
    image: str | None = None
    distributed: bool | None = None
    platform: Mapping[str, str] = dataclasses.field(default_factory=dict)
    batch_tags: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tag_jobs: bool = True
    share_identifier: str | Mapping[str, str] | None = None
    log_history: bool = False
    gang_poll_seconds: int = 30
    settings: AwsSettings | None = None


def compile_flow(
    flow: str | Path | Manifest,
    *,
    name: str | None = None,
    top_level: Sequence[str] = (),
    create: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    python: str | None = None,
    cache: str | Path | None = None,
    **options: Any,
) -> FlowMachine:
    """Return a flow as a state machine.

    ```python
    from metaflow_adapters.step_functions import compile_flow

    machine = compile_flow("flows/training.py", create=["--max-workers", "50"])
    machine.deploy()
    ```

    New in version 0.1.0.

    :param flow: a flow file, the manifest that ``sfn create --manifest-only`` wrote of it, or a manifest.
    :param name: name of the state machine.
    :param top_level: options before the subcommand, e.g. ``["--with", "retry"]``.
    :param create: options of ``sfn create``, e.g. ``["--tag", "nightly"]``.
    :param environment: variables for Metaflow while it compiles, e.g. ``METAFLOW_DATASTORE_SYSROOT_S3``.
    :param python: interpreter that has the flow's imports; this one, if left out.
    :param cache: folder for compiled manifests.
    :param options: see :class:`StepFunctionsOptions`.
    :raises MetaflowProviderError: if the flow cannot be compiled, or AWS cannot honour it.
    """
    manifest = compile_manifest_of(
        flow,
        "sfn",
        name=name,
        top_level=top_level,
        create=create,
        environment=environment,
        python=python,
        cache=cache,
    )
    return machine_from(manifest, StepFunctionsOptions(**options))


def machine_from(manifest: Manifest, options: StepFunctionsOptions) -> FlowMachine:
    """Return a compiled flow as a state machine.

    :param manifest: the compiled flow.
    :param options: options of Step Functions.
    """
    settings = options.settings or aws_settings()
    deployment, graph = manifest.deployment, manifest.graph
    plan = plan_flow(graph, max_workers=deployment.max_workers, distributed=options.distributed)
    jobs, uploads = _jobs(manifest, plan, options)
    bucket, root = _datastore(manifest)
    place = settings.place()
    context = MachineContext(
        partition=place.partition,
        bucket=bucket,
        root=root,
        prefix=f"{root}{FOLDER}/{graph.name}/",
        start=graph.start,
        end=graph.end,
        jobs=jobs.by_step.__getitem__,
        takes_long_input=longest_input(graph) > INLINE_INPUT,
        poll_seconds=options.gang_poll_seconds,
    )
    states = emit_scope(plan, context)
    fields: MachineFields = {}
    if graph.doc.strip():
        fields["Comment"] = graph.doc.strip()[:500]
    if deployment.workflow_timeout:
        fields["TimeoutSeconds"] = deployment.workflow_timeout
    definition = machine_of(states, graph.name, **fields)
    after = _after(manifest, jobs, settings)
    resources = _resources(manifest, jobs, context, settings, after)
    resources = dataclasses.replace(resources, uploads=uploads, job_definitions=(*resources.job_definitions, *after[1]))
    needs = needs_of(manifest, jobs, states, context, resources, logged=options.log_history)
    machine = FlowMachine(
        name=deployment.name,
        states=states,
        definition=definition,
        resources=dataclasses.replace(resources, policies=all_policies(needs, settings, resources)),
        manifest=manifest,
        settings=settings,
        place=place,
        log_history=options.log_history,
        options=options,
    )
    check_limits(machine)
    return machine


def _jobs(manifest: Manifest, plan: ScopePlan, options: StepFunctionsOptions) -> tuple[Jobs, dict[str, bytes]]:
    kinds = job_kinds(plan)
    document, content = inline_document(whole_document(manifest, kinds))
    uploads = {}
    if content is not None:
        digest = hashlib.sha256(content).hexdigest()
        url = f"{manifest.command.datastore_root.rstrip('/')}/{FOLDER}/documents/{digest}"
        uploads[url] = content
        document = f"@{url}"
    settings = JobSettings(
        queue=options.queue,
        image=options.image,
        platform=options.platform,
        tags=dict(options.batch_tags),
        is_tagged=options.tag_jobs,
        share=options.share_identifier,
    )
    return make_jobs(manifest, kinds, document, settings), uploads


def _datastore(manifest: Manifest) -> tuple[str, str]:
    """Return bucket and key of the datastore's root."""
    bucket, _, root = manifest.command.datastore_root.removeprefix("s3://").partition("/")
    return bucket, f"{root.rstrip('/')}/" if root else ""


def _after(manifest: Manifest, jobs: Jobs, settings: AwsSettings) -> tuple[Definition | None, list[BatchObject]]:
    """Return the machine that follows runs, and the job definition that only it uses."""
    start = manifest.graph.start
    job = dataclasses.replace(jobs.by_step[start], name=f"{manifest.graph.name}-after"[:128])
    own = []
    if needs_secrets(manifest):
        like = next(one for one in jobs.definitions if one["jobDefinitionName"] == job.definition)
        definition = _with_secrets(manifest, like, settings)
        own.append(definition)
        job = dataclasses.replace(job, definition=definition["jobDefinitionName"])
    return after_definition(manifest, job, settings.place().partition), own


def _with_secrets(manifest: Manifest, like: BatchObject, settings: AwsSettings) -> BatchObject:
    container = dict(like["containerProperties"])
    if not container.get("executionRoleArn"):
        role = settings.execution_role
        if not role:
            raise InvalidOptionError(
                "it notifies an endpoint whose key is a secret, and AWS Batch needs an execution role to read it.",
                flow=manifest.graph.name,
                hint="Set METAFLOW_ECS_FARGATE_EXECUTION_ROLE, or use --notify-sns-topic.",
            )
        container["executionRoleArn"] = role
    container["secrets"] = [
        {"name": f"{VARIABLE_PREFIX}{key}", "valueFrom": f"{secret}:{key}::"}
        for key, secret in notified_endpoints(manifest.deployment.notifications).items()
    ]
    return {**like, "jobDefinitionName": f"{like['jobDefinitionName']}{AFTER}", "containerProperties": container}


def _resources(
    manifest: Manifest,
    jobs: Jobs,
    context: MachineContext,
    settings: AwsSettings,
    after: tuple[Definition | None, list[BatchObject]],
) -> Resources:
    graph, name, place = manifest.graph, manifest.deployment.name, settings.place()
    role = settings.events_role or NO_ROLE
    schedules = [schedule_of(manifest, place.machine(name), role)]
    helpers: dict[str, Definition] = {}
    rules = []
    target = place.machine(name)
    if needs_gate(graph):
        gate = machine_helper_name(name, "events")
        target = place.machine(gate)
        helpers[gate] = gate_definition(
            graph,
            machine_arn=place.machine(name),
            bucket=context.bucket,
            prefix=f"{context.prefix}events/{name}/",
            place=place,
            name_prefix=settings.name_prefix,
        )
        schedules.append(reset_of(manifest, target, role, to_json(RESET)))
    for number, trigger in enumerate(graph.triggers):
        pattern = pattern_of(trigger, place, settings.name_prefix)
        rules.append(_rule(helper_name(name, f"event-{number}"), pattern, target, role))
    if after[0] is not None:
        follower = machine_helper_name(name, "after")
        helpers[follower] = after[0]
        pattern = status_pattern(place.machine(name), followed(after[0]))
        rules.append(_rule(helper_name(name, "after"), pattern, place.machine(follower), role))
    return Resources(
        job_definitions=jobs.definitions,
        state_machines=helpers,
        schedules=tuple(one for one in schedules if one is not None),
        rules=tuple(rules),
        policies={},
        uploads={},
    )


def _rule(name: str, pattern: EventPattern, target: str, role: str) -> Rule:
    return {
        "Name": name,
        "EventPattern": to_json(pattern),
        "Description": "Made by airflow-provider-metaflow.",
        "Targets": [{"Id": "machine", "Arn": target, "RoleArn": role}],
    }
