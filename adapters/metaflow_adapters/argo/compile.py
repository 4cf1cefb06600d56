"""``compile_flow``: from a flow file, or its manifest, to its objects on Argo Workflows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaflow_adapters.argo.objects.containers import SharedContainer, StepContainer, shared_container, step_container
from metaflow_adapters.argo.objects.events import emit_sensor, event_parameters, event_settings
from metaflow_adapters.argo.objects.gangs import GANGS, emit_gang
from metaflow_adapters.argo.objects.hooks import EXIT, HEARTBEAT, emit_heartbeat, emit_hooks
from metaflow_adapters.argo.objects.metadata import SENSOR, SENSOR_NAMESPACE, annotations_of, labels_of, run_annotations
from metaflow_adapters.argo.objects.parameters import emit_parameters
from metaflow_adapters.argo.objects.schedule import emit_cron
from metaflow_adapters.argo.objects.spec import Raw, Spec, Task, WorkflowTemplate, model
from metaflow_adapters.argo.objects.templates import emit_templates
from metaflow_adapters.argo.plan.flow import FlowPlan, StepPlan, plan_flow
from metaflow_adapters.argo.plan.names import TEMPLATE_NAME
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import InvalidOptionError

from .deployment import ArgoDeployment
from .limits import check_limits
from .options import ArgoOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .options import ArgoOptionFields

__all__ = ["ArgoOptions", "checked_deployment", "compile_flow", "deployment_of"]

PARAMETERS = "{{=sprig.b64enc(workflow.parameters.json)}}"
"""Encoded by Argo, so that nothing in a value is taken for a reference of Argo's."""


def compile_flow(
    flow: str | Path | Manifest,
    *,
    name: str | None = None,
    top_level: Sequence[str] = (),
    create: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    python: str | None = None,
    cache: str | Path | None = None,
    options: ArgoOptions | None = None,
    **fields: Unpack[ArgoOptionFields],
) -> ArgoDeployment:
    """Return a flow as live objects of Argo Workflows.

    ```python
    from metaflow_adapters.argo import compile_flow

    deployment = compile_flow("flows/training.py", namespace="flows", priority=5)
    print(deployment.to_yaml())
    ```

    New in version 0.1.0.

    :param flow: a flow file, the manifest that ``argo create --manifest-only`` wrote of it, or a manifest.
    :param name: name of the workflow template.
    :param top_level: options before the subcommand, e.g. ``["--with", "retry"]``.
    :param create: options of ``argo create``, e.g. ``["--tag", "nightly"]``.
    :param environment: variables for Metaflow while it compiles, e.g. ``METAFLOW_DATASTORE_SYSROOT_S3``.
    :param python: interpreter that has the flow's imports; this one, if left out.
    :param cache: folder for compiled manifests.
    :param options: Argo's own options.
    :param fields: single ones of them, e.g. ``namespace="flows"``; they win.
    :raises MetaflowProviderError: if the flow cannot be compiled, or Argo cannot honour it.
    """
    # Here and not above: the command line has compiled the flow itself.
    from metaflow_adapters.manifests import compile_manifest_of

    manifest = compile_manifest_of(
        flow, "argo", name=name, top_level=top_level, create=create, environment=environment, python=python, cache=cache
    )
    return deployment_of(manifest, replace(options or ArgoOptions(), **fields))


def deployment_of(manifest: Manifest, options: ArgoOptions) -> ArgoDeployment:
    """Return the objects of a compiled flow.

    :param manifest: the compiled flow.
    :param options: Argo's own options.
    """
    plan = plan_flow(manifest.graph)
    containers = containers_of(manifest, plan, options, PARAMETERS)
    shared = shared_container(manifest)
    deployment = manifest.deployment
    first = containers[manifest.graph.start]
    hooks = emit_hooks(manifest, first, report_failures=options.report_failures)
    entry, *templates = emit_templates(plan, containers, None, gangs_of(shared, options.gang))
    if options.heartbeat:
        templates.append(emit_heartbeat(manifest, first))
        entry.tasks.append(Task(name=HEARTBEAT, template=HEARTBEAT))
    template = WorkflowTemplate(
        name=deployment.name,
        namespace=options.namespace,
        labels=labels_of("metaflow-flow"),
        annotations=annotations_of(manifest, options.title, options.description),
        entrypoint=plan.entrypoint,
        on_exit=EXIT if hooks else None,
        arguments=[*emit_parameters(manifest.graph), *event_parameters(manifest.graph)] or None,
        parallelism=deployment.max_workers,
        active_deadline_seconds=deployment.workflow_timeout,
        priority=options.priority,
        image_pull_secrets=_pull_secrets(containers),
        ttl_strategy=model("TTLStrategy", seconds_after_completion=options.ttl_seconds)
        if options.ttl_seconds
        else None,
        pod_gc=model("PodGC", strategy=options.pod_gc) if options.pod_gc else None,
        workflow_metadata=model(
            "WorkflowMetadata", labels=labels_of("metaflow-run"), annotations=run_annotations(manifest)
        ),
        pod_metadata=model("Metadata", labels=labels_of("metaflow-task"), annotations=run_annotations(manifest)),
        template_defaults=model("Template", container=Raw("Container", shared)),
        templates=[entry, *templates, *hooks],
    )
    cron = emit_cron(
        manifest,
        options.namespace,
        policy=options.concurrency_policy,
        successful=options.successful_runs_kept,
        failed=options.failed_runs_kept,
    )
    sensor = emit_sensor(manifest, options.namespace, options.events or event_settings())
    if sensor is not None:
        template.annotations = {**(template.annotations or {}), **_where(sensor)}
    return ArgoDeployment(template, cron, sensor=sensor, manifest=manifest)


def _where(sensor: Mapping[str, Any]) -> dict[str, str]:
    """Return the annotations by which a sensor is found that may be in another namespace."""
    where = {SENSOR: sensor["metadata"]["name"], SENSOR_NAMESPACE: sensor["metadata"]["namespace"]}
    return {key: one for key, one in where.items() if one}


def checked_deployment(manifest: Manifest, options: ArgoOptions) -> ArgoDeployment:
    """Return the objects of a compiled flow, which Kubernetes takes; ``create`` and ``check`` make them here.

    :param manifest: the compiled flow.
    :param options: Argo's own options.
    :raises MetaflowProviderError: if Argo cannot honour the flow, or an object is too big.
    """
    TEMPLATE_NAME.check(manifest.deployment.name, manifest.graph.name)
    made = deployment_of(manifest, options)
    check_limits(made)
    return made


def containers_of(
    manifest: Manifest, plan: FlowPlan, options: ArgoOptions, parameters: str
) -> dict[str, StepContainer]:
    """Return the containers of all steps, by step.

    :param manifest: the compiled flow.
    :param plan: its plan.
    :param options: Argo's own options.
    :param parameters: where the parameters of the run stand.
    """
    namespace = options.namespace
    return {
        one.step: step_container(manifest, one, image=options.image, namespace=namespace, parameters=parameters)
        for one in plan.steps
    }


def gangs_of(shared: SharedContainer, kind: str) -> Callable[[StepPlan, StepContainer], Any]:
    """Return what makes the templates of ``@parallel`` steps.

    :param shared: command and variables of all steps.
    :param kind: ``jobset`` or ``job``.
    :raises InvalidOptionError: if it is neither.
    """
    if kind not in GANGS:
        raise InvalidOptionError(f"`gang` is {kind!r}.", hint=f"It must be one of {', '.join(map(repr, GANGS))}.")
    return lambda plan, made: emit_gang(plan, made, shared, kind)


def _pull_secrets(containers: Mapping[str, StepContainer]) -> list[Spec] | None:
    names = dict.fromkeys(name for one in containers.values() for name in one.pull_secrets)
    return [model("LocalObjectReference", name=name) for name in names] or None
