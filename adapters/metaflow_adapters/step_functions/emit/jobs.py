"""Jobs and job definitions of a flow: one definition for each distinct setting of containers, and who uses it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metaflow_adapters.documents import described_parameters
from metaflow_adapters.step_functions.plan.names import DEPLOYMENT_TAG
from metaflow_adapters.step_functions.plan.nodes import JobKind
from metaflow_orchestration.containers.batch_jobs import container_overrides, job_definition, task_environment
from metaflow_orchestration.containers.command import FLOW_VARIABLE, container_command, encode_inline, first_environment
from metaflow_orchestration.containers.options import base_attributes, check_options, deadline_of
from metaflow_orchestration.documents.container_settings import remote_settings
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import UnsupportedFeatureError
from metaflow_orchestration.graph.compute import Compute, compute_of
from metaflow_orchestration.graph.model import Step
from metaflow_orchestration.run.commands import NO_RETRY

from .submission import Job
from .tags import check_tags, taggable

MAX_TAGGED_STEPS = 1500
"""Flows with more steps need the bytes of their definition, of which AWS takes 1 MiB, for the steps."""

MAX_DESCRIBED_STEPS = 1000
"""Likewise, for the parameters by which people find jobs."""

MAX_PARAMETERS_BYTES = 8_000
"""Longest description of a flow's parameters that keeps the help of each; a submission takes 30 KiB in all."""

DEFAULT_LOG_GROUP = "/aws/batch/job"
"""Where AWS Batch keeps the logs of jobs that name no group."""

MAX_DEFINITION_BYTES = 20_000
"""AWS Batch takes job definitions of 24 KiB (service quotas); a longer flow document goes to the datastore."""

AFTER = "-after"
"""What the name of the job definition ends with that only the machine that follows runs uses."""

_MAX_JOB_NAME = 128
_DIGEST = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """What a flow is to AWS Batch.

    :param definitions: job definitions, as ``RegisterJobDefinition`` takes them.
    :param by_step: what the state of each step says.
    """

    definitions: tuple[dict[str, Any], ...]
    by_step: Mapping[str, Job]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """What jobs need to know beside the flow.

    :param queue: queue in place of those of decorators.
    :param image: image in place of those of decorators.
    :param platform: type of the queues' compute environments, by queue.
    :param tags: tags of all jobs.
    :param is_tagged: whether jobs that have no tags otherwise have the tag of their deployment.
    :param share: share of jobs in fair-share queues, by queue, or that of all queues.
    """

    queue: str | None = None
    image: str | None = None
    platform: Mapping[str, str]
    tags: Mapping[str, str]
    is_tagged: bool = True
    share: str | Mapping[str, str] | None = None

    def share_in(self, queue: str) -> str | None:
        """Return the share of jobs in a queue, None if it is no fair-share queue.

        :param queue: name or ARN.
        """
        return self.share if self.share is None or isinstance(self.share, str) else self.share.get(queue)


def make_jobs(manifest: Manifest, kinds: Mapping[str, JobKind], flow_variable: str, settings: JobSettings) -> Jobs:
    """Return the jobs of a flow.

    :param manifest: the compiled flow.
    :param kinds: what each step is to AWS Batch.
    :param flow_variable: value of the variable that brings the flow's document.
    :param settings: what they need to know beside.
    :raises UnsupportedFeatureError: naming the step and what AWS Batch cannot honour.
    """
    definitions: dict[str, dict[str, Any]] = {}
    by_step = {}
    of_steps = {step.name: attributes_of_step(manifest, step, settings) for step in manifest.graph.steps}
    # By the deployment's tag policies know the jobs of a flow from those of others. If any job has tags all have it.
    given = bool(
        settings.tags
        or remote_settings(manifest).batch_emit_tags
        or any(one.get("aws_batch_tags") for one in of_steps.values())
    )
    is_tagged = given or (settings.is_tagged and len(of_steps) <= MAX_TAGGED_STEPS)
    for step in manifest.graph.steps:
        attributes = of_steps[step.name]
        definition = _definition(manifest, step, kinds[step.name], attributes, flow_variable, settings)
        definitions[definition["jobDefinitionName"]] = definition
        tags = _tags(manifest, step, attributes, settings) if is_tagged else {}
        job = _job(manifest, step, attributes, definition["jobDefinitionName"], tags)
        by_step[step.name] = dataclasses.replace(job, share=settings.share_in(job.queue))
    return Jobs(definitions=tuple(definitions.values()), by_step=by_step)


def attributes_of_step(manifest: Manifest, step: Step, settings: JobSettings) -> dict[str, Any]:
    """Return the attributes of ``@batch`` of a step, with ``@resources`` merged.

    :param manifest: the compiled flow.
    :param step: the step.
    :param settings: what they need to know beside.
    """
    flow = manifest.graph.name
    if compute_of(step) is Compute.KUBERNETES:
        raise on_kubernetes(flow, step.name)
    if manifest.code.datastore != "s3":
        raise UnsupportedFeatureError(
            f"AWS Step Functions needs --datastore=s3, and it has {manifest.code.datastore!r}.", flow=flow
        )
    check_options(manifest, step, Compute.BATCH, {})
    found: dict[str, Any] = {**(base_attributes(manifest, step, Compute.BATCH) or {})}
    if settings.queue is not None:
        found["queue"] = settings.queue
    if settings.image is not None:
        found["image"] = settings.image
    for name, variable in (("queue", "METAFLOW_BATCH_JOB_QUEUE"), ("image", "METAFLOW_BATCH_CONTAINER_IMAGE")):
        if not found.get(name):
            raise UnsupportedFeatureError(
                f"it has no {name}.", flow=flow, step=step.name, hint=f"Set {variable} or @batch({name}=…)."
            )
    return found


def on_kubernetes(flow: str, step: str) -> UnsupportedFeatureError:
    """Return the error of a step that is marked for Kubernetes.

    :param flow: name of the flow.
    :param step: name of the step.
    """
    return UnsupportedFeatureError(
        "it is marked for Kubernetes, and AWS Step Functions runs jobs of AWS Batch only.",
        flow=flow,
        step=step,
        hint="Use @batch in place of @kubernetes.",
    )


def _definition(
    manifest: Manifest,
    step: Step,
    kind: JobKind,
    attributes: Mapping[str, Any],
    flow_variable: str,
    settings: JobSettings,
) -> dict[str, Any]:
    platform = settings.platform.get(attributes["queue"], "EC2")
    gang = kind is JobKind.GANG
    definition = job_definition(
        attributes,
        command=container_command(manifest, manifest.code, step.name),
        platform=platform,
        gang=gang,
        flow=manifest.graph.name,
        step=step.name,
    )
    variables = {
        **first_environment(manifest, manifest.code),
        **task_environment(attributes),
        FLOW_VARIABLE: flow_variable,
    }
    container = definition["nodeProperties"]["nodeRangeProperties"][0]["container"] if gang else None
    container = container or definition["containerProperties"]
    container.update(container_overrides(attributes, variables))
    definition["timeout"] = {"attemptDurationSeconds": deadline_of(step)}
    if kind is JobKind.ARRAY and _retries(step):
        definition["retryStrategy"] = {
            "attempts": _retries(step) + 1,
            "evaluateOnExit": [
                {"onExitCode": str(NO_RETRY), "action": "EXIT"},
                {"onReason": "*", "action": "RETRY"},
            ],
        }
    # A parameter in place of a tag, for which the deployer would need one permission more.
    definition["parameters"] = {DEPLOYMENT_TAG: manifest.deployment.name, "metaflow.flow_name": manifest.graph.name}
    if settings.share_in(attributes["queue"]):
        # AWS Batch takes no job for a share without a priority in it.
        definition["schedulingPriority"] = 0
    named = {name: value for name, value in definition.items() if name != "jobDefinitionName"}
    digest = hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()
    return {"jobDefinitionName": f"{definition_stem(manifest.deployment.name)}{digest[:_DIGEST]}", **named}


def definition_stem(machine: str) -> str:
    """Return what the names of the job definitions of a deployment begin with.

    The rest is a hash of their content. Policies know by it the definitions of later versions of the flow, too.

    :param machine: name of the state machine.
    """
    # AWS Batch takes letters, digits, hyphens and underscores.
    return f"metaflow-{re.sub(r'[^A-Za-z0-9_-]', '-', machine)}-"


def definition_patterns(machine: str) -> tuple[str, ...]:
    """Return patterns of IAM for the names of the job definitions of a deployment.

    :param machine: name of the state machine.
    """
    # As many single wildcards as there are digits: `*` would match those of a machine whose name begins the same.
    own = f"{definition_stem(machine)}{'?' * _DIGEST}"
    return own, f"{own}{AFTER}"


def _retries(step: Step) -> int:
    return step.retry.user + step.retry.error


def _job(
    manifest: Manifest, step: Step, attributes: Mapping[str, Any], definition: str, tags: Mapping[str, str]
) -> Job:
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", f"{manifest.graph.name}-{step.name}")
    return Job(
        name=readable[:_MAX_JOB_NAME],
        definition=definition,
        queue=attributes["queue"],
        tags=tags,
        parameters=_parameters(manifest) if step.name == manifest.graph.start else {},
        flow=manifest.graph.name if len(manifest.graph.steps) <= MAX_DESCRIBED_STEPS else None,
        step=step.name,
        is_recursive=step.recursive,
        has_run_tag=remote_settings(manifest).batch_emit_tags,
        retries=_retries(step),
        delay_seconds=step.retry.delay_seconds,
    )


def _tags(manifest: Manifest, step: Step, attributes: Mapping[str, Any], settings: JobSettings) -> dict[str, str]:
    """Return the tags of a step's jobs: those that were given, the deployment's, and Metaflow's own if asked for.

    ``METAFLOW_BATCH_EMIT_TAGS`` asks for them, as for those of Metaflow's own deployer.
    """
    given = {str(key): str(one) for key, one in (attributes.get("aws_batch_tags") or {}).items()}
    emitted = {}
    if remote_settings(manifest).batch_emit_tags:
        owner = taggable(manifest.deployment.owner)
        emitted = {
            "app": "metaflow",
            "metaflow.user": owner,
            "metaflow.owner": owner,
            "metaflow.flow_name": manifest.graph.name,
            "metaflow.step_name": step.name,
        }
    found = {**emitted, **settings.tags, **given, DEPLOYMENT_TAG: manifest.deployment.name}
    # Those that say which run it is are made when it is submitted.
    total = len(found) + bool(emitted)
    check_tags({**settings.tags, **given}, total, flow=manifest.graph.name, step=step.name)
    return found


def _parameters(manifest: Manifest) -> dict[str, str]:
    """Return who deployed the flow, where Metaflow's own deployer keeps it: as parameters of the first job."""
    deployment, project = manifest.deployment, manifest.graph.project
    found = {
        "metaflow.owner": deployment.owner,
        "metaflow.flow_name": manifest.graph.name,
        "metaflow.production_token": deployment.production_token,
    }
    if manifest.graph.parameters:
        described = described_parameters(manifest.graph)
        text = json.dumps(described, separators=(",", ":"))
        if len(text.encode()) > MAX_PARAMETERS_BYTES:
            short = {name: {**one, "description": None} for name, one in described.items()}
            text = json.dumps(short, separators=(",", ":"))
        found["metaflow.parameters"] = text
    if project is not None:
        found |= {"metaflow.project_name": project.name, "metaflow.branch_name": project.branch}
    return found


def inline_document(document: Mapping[str, Any]) -> tuple[str, bytes | None]:
    """Return a flow's document as text, and as bytes for the datastore if it is too long for a job definition.

    :param document: JSON types.
    """
    import base64

    encoded = encode_inline(document)
    return (encoded, None) if len(encoded) <= MAX_DEFINITION_BYTES // 2 else ("", base64.b64decode(encoded))
