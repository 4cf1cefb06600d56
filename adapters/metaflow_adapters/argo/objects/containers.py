"""The containers of steps as plain data: what all of them share, and what differs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from metaflow_adapters.argo.plan.flow import ITERATION, PLACE, StepPlan
from metaflow_adapters.documents import flow_document, step_document
from metaflow_orchestration.containers.command import (
    FLOW_VARIABLE,
    TASK_VARIABLE,
    container_command,
    encode_inline,
    first_environment,
)
from metaflow_orchestration.containers.objects import KubernetesObject
from metaflow_orchestration.containers.options import base_attributes, check_options, deadline_of
from metaflow_orchestration.containers.pod_fields import names_of
from metaflow_orchestration.containers.pods import DOWNWARD, TERMINATION_LOG, literal, make_pod, task_environment
from metaflow_orchestration.documents.container_settings import remote_settings
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import UnsupportedFeatureError
from metaflow_orchestration.graph.compute import Compute, compute_of
from metaflow_orchestration.graph.model import Step
from metaflow_orchestration.graph.naming import emitted_events
from metaflow_orchestration.run.commands import NO_RETRY

from .events import event_name
from .metadata import ORIGIN
from .references import encoded, parameter, refuse_references

_FOLDER = "/tmp/metaflow-outcome"  # noqa: S108  (in a container of its own)


class _Named(TypedDict):
    name: str


class EnvVar(_Named, total=False):
    """A variable of a container (Kubernetes API, EnvVar)."""

    value: str
    valueFrom: dict[str, dict[str, str]]


class SharedContainer(TypedDict):
    """What the containers of all steps share (Kubernetes API, Container)."""

    command: list[str]
    env: list[EnvVar]
    terminationMessagePath: str


class _Container(TypedDict):
    image: str
    env: list[EnvVar]


class ContainerFields(_Container, total=False):
    """What a container has of its own (Kubernetes API, Container)."""

    name: str
    command: list[str]
    imagePullPolicy: str
    envFrom: list[KubernetesObject]
    ports: list[KubernetesObject]
    resources: KubernetesObject
    volumeMounts: list[KubernetesObject]
    securityContext: KubernetesObject
    terminationMessagePath: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContainer:
    """What the template of a step's container says, in the words of the Kubernetes API.

    :param container: the container, without what it shares with all others.
    :param pod: fields of its pod that a template takes.
    :param retries: how often Argo tries it again.
    :param delay_seconds: pause between two tries.
    :param deadline_seconds: after how long Argo ends the pod.
    :param output_path: file of its output.
    :param pull_secrets: names of secrets for its image.
    """

    container: ContainerFields
    pod: KubernetesObject
    retries: int
    delay_seconds: float | None
    deadline_seconds: int
    output_path: str | None
    pull_secrets: tuple[str, ...]


def shared_container(manifest: Manifest, *, resumable: bool = True) -> SharedContainer:
    """Return command and variables that the containers of all steps share.

    :param manifest: the compiled flow.
    :param resumable: whether the workflow has the parameter that says which run it resumes.
    """
    links = (
        '{"argo-workflow-name":"{{workflow.name}}","argo-workflow-namespace":"{{workflow.namespace}}",'
        f'"argo-workflow-template":{json.dumps(manifest.deployment.name)}}}'
    )
    command = container_command(manifest, manifest.code, manifest.graph.start)
    first = first_environment(manifest, manifest.code)
    given = [manifest.deployment.name, command, first]
    refuse_references("its configuration", given, flow=manifest.graph.name)
    variables = {
        **first,
        FLOW_VARIABLE: encode_inline(flow_document(manifest)),
        "METAFLOW_ORCHESTRATOR_RUN": "argo-{{workflow.name}}",
        "METAFLOW_ORCHESTRATOR_LINKS": links,
        "METAFLOW_ORCHESTRATOR_REASON": TERMINATION_LOG,
    }
    if resumable:
        variables["METAFLOW_ORCHESTRATOR_ORIGIN_BASE64"] = encoded(parameter(ORIGIN))
    env: list[EnvVar] = [{"name": name, "value": literal(value)} for name, value in variables.items()]
    env += [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in DOWNWARD.items()]
    return {
        "command": [literal(word) for word in command],
        "env": env,
        "terminationMessagePath": TERMINATION_LOG,
    }


def step_container(
    manifest: Manifest, plan: StepPlan, *, image: str | None, namespace: str | None, parameters: str
) -> StepContainer:
    """Return the container of a step.

    :param manifest: the compiled flow.
    :param plan: its template.
    :param image: image in place of that of its decorator.
    :param namespace: namespace of the workflows.
    :param parameters: where the parameters of the run stand, for the start step.
    :raises UnsupportedFeatureError: naming what Argo cannot honour.
    """
    step = manifest.graph.step(plan.step)
    attributes = _attributes(manifest, step, image, namespace)
    retries = step.retry.user + step.retry.error
    output = {plan.output[0]: f"{_FOLDER}/{plan.output[0]}"} if plan.output else {}
    triggers = {event_name(one.event): "run" if one.of_run else "event" for one in manifest.graph.triggers}
    document = step_document(
        manifest,
        step,
        environment={**task_environment(attributes), **_events(manifest, step), **_port(step, attributes)},
        outputs=output,
        retries=retries,
        triggers=triggers,
    )
    deadline = deadline_of(step)
    pod = make_pod(attributes, command=[], environment={}, labels={}, annotations={}, deadline_seconds=deadline)
    container: ContainerFields = pod["spec"]["containers"][0].copy()
    container.pop("name", None)
    container.pop("terminationMessagePath", None)
    own = container_command(manifest, manifest.code, step.name)
    refuse_references("@kubernetes", [pod, own], flow=manifest.graph.name, step=step.name)
    container["env"] = [{"name": TASK_VARIABLE, "value": encode_inline(document)}, *_placed(plan, retries)]
    if triggers or (step.name == manifest.graph.start and manifest.graph.parameters):
        container["env"].append({"name": "METAFLOW_ORCHESTRATOR_PARAMETERS", "value": parameters})
    if own != container_command(manifest, manifest.code, manifest.graph.start):
        container["command"] = [literal(word) for word in own]
    return StepContainer(
        container=container,
        pod={**pod["spec"], "metadata": pod["metadata"]},
        retries=retries,
        delay_seconds=step.retry.delay_seconds,
        deadline_seconds=deadline,
        output_path=next(iter(output.values()), None),
        pull_secrets=tuple(names_of(attributes.get("image_pull_secrets"))),
    )


def retry_expression() -> str:
    """Return Argo's condition for another try: not after an exit that asks for none."""
    return f"asInt(lastRetry.exitCode) != {NO_RETRY}"


def _port(step: Step, attributes: Mapping[str, Any]) -> dict[str, str]:
    port = attributes.get("port")
    return {"MF_MASTER_PORT": str(port)} if step.gang and port else {}


def _events(manifest: Manifest, step: Step) -> dict[str, str]:
    """Return the variables by which the end of a task is announced to flows that wait for it."""
    if not manifest.deployment.emit_events:
        return {}
    names = emitted_events(manifest.graph, step)
    # Without the second Metaflow takes itself to be somewhere else, and publishes nothing.
    return {"METAFLOW_ORCHESTRATOR_EVENTS": json.dumps(names), "ARGO_WORKFLOW_TEMPLATE": manifest.deployment.name}


def _placed(plan: StepPlan, retries: int) -> list[EnvVar]:
    found = {}
    if PLACE in plan.inputs:
        found["METAFLOW_ORCHESTRATOR_PLACE_BASE64"] = encoded(f"inputs.parameters.{PLACE}")
    if ITERATION in plan.inputs:
        found["METAFLOW_ORCHESTRATOR_ITERATION"] = f"{{{{inputs.parameters.{ITERATION}}}}}"
    if retries:
        # Argo knows the variable only where there are retries.
        found["METAFLOW_ORCHESTRATOR_TRY"] = "{{retries}}"
    return [{"name": name, "value": value} for name, value in found.items()]


def on_batch(flow: str, step: str) -> UnsupportedFeatureError:
    """Return the error of a step that is marked for AWS Batch.

    :param flow: name of the flow.
    :param step: name of the step.
    """
    return UnsupportedFeatureError(
        "it is marked for AWS Batch, and Argo Workflows runs pods only.",
        flow=flow,
        step=step,
        hint="Use @kubernetes in place of @batch.",
    )


def _attributes(manifest: Manifest, step: Step, image: str | None, namespace: str | None) -> dict[str, Any]:
    flow = manifest.graph.name
    if compute_of(step) is Compute.BATCH:
        raise on_batch(flow, step.name)
    check_options(manifest, step, Compute.KUBERNETES, {})
    attributes: Mapping[str, Any] = base_attributes(manifest, step, Compute.KUBERNETES) or {}
    own = attributes.get("namespace")
    settings = remote_settings(manifest)
    # Metaflow writes its configured namespace into every @kubernetes that names none.
    configured = settings.compute_defaults.get(Compute.KUBERNETES.value, {}).get("namespace")
    if own and namespace and own not in (namespace, configured):
        raise UnsupportedFeatureError(
            f"it asks for the namespace {own!r}, and all pods of a workflow run in its own, {namespace!r}.",
            flow=flow,
            step=step.name,
            hint="Remove `namespace` from its @kubernetes, or deploy the flow to that namespace.",
        )
    secrets = [*settings.pod_secrets, *names_of(attributes.get("secrets"))]
    found = {**attributes, "secrets": list(dict.fromkeys(secrets))}
    if image is not None:
        found["image"] = image
    if not found.get("image"):
        raise UnsupportedFeatureError(
            "it has no image.",
            flow=flow,
            step=step.name,
            hint="Set METAFLOW_KUBERNETES_CONTAINER_IMAGE or @kubernetes(image=…).",
        )
    return found
