"""What runs after a run: functions of ``@exit_hook``, and notifications of its end."""

from __future__ import annotations

from collections.abc import Iterator

from metaflow_adapters.documents import Aside, notice
from metaflow_adapters.notifications import VARIABLE_PREFIX, notified_endpoints
from metaflow_orchestration.containers.command import TASK_VARIABLE, encode_inline
from metaflow_orchestration.documents.manifest import Manifest, Notifications
from metaflow_orchestration.exceptions import InvalidOptionError

from .configuration import error_script
from .containers import StepContainer
from .spec import Container, Raw, Spec, Step, Steps, model, raw

EXIT = "exit"
"""Name of the template that Argo starts at the end of a workflow, however it ended."""

HEARTBEAT = "heartbeat-daemon"
"""Name of the template, and of its task, that runs beside the steps."""

ERROR_CAPTURE = "error-msg-capture-hook"
"""Name of the template that runs the script of a deployment's configuration after a failure, as in Metaflow's own."""

_FAILURES = Raw("EnvVar", {"name": "METAFLOW_ORCHESTRATOR_FAILURES", "value": "{{=sprig.b64enc(workflow.failures)}}"})
"""Encoded by Argo: a message may hold anything."""

_RESOURCES = {"requests": {"cpu": "50m", "memory": "100Mi"}}
_FAILED = ("Failed", "Error")


def emit_hooks(manifest: Manifest, like: StepContainer, *, report_failures: bool = True) -> list[Spec]:
    """Return the templates that run after a run, the first of which is to be the workflow's ``onExit``.

    :param manifest: the compiled flow.
    :param like: the container of a step, whose image, secrets and service account are used.
    :param report_failures: whether a notification of a failure holds what failed first, and the script of
        ``METAFLOW_ARGO_WORKFLOWS_CAPTURE_ERROR_SCRIPT`` is run.
    """
    steps, containers = [], []
    for name, succeeded, document, env in _hooks(manifest, report_failures):
        reports = report_failures and not succeeded and "function" not in document
        containers.append(_container(name, like, document, [*env, *([_FAILURES] if reports else [])]))
        steps.append(
            Step(
                name=name,
                template=name,
                when=_when(succeeded),
                # What comes after a run makes no failure of it.
                continue_on=model("ContinueOn", failed=True, error=True),
            )
        )
    return [Steps(name=EXIT, sub_steps=[steps]), *containers] if steps else []


def emit_heartbeat(manifest: Manifest, like: StepContainer) -> Spec:
    """Return the template of a container that keeps the run alive for Metaflow's service, while the DAG runs.

    :param manifest: the compiled flow.
    :param like: the container of a step, whose image, secrets and service account are used.
    :raises InvalidOptionError: if there is no such service.
    """
    if manifest.command.metadata != "service":
        raise InvalidOptionError(
            "it asks for heartbeats, which go to Metaflow's metadata service, and uses none.",
            flow=manifest.graph.name,
            hint="Set METAFLOW_DEFAULT_METADATA=service, or leave out --enable-heartbeat-daemon.",
        )
    container = _container(HEARTBEAT, like, {"heartbeat": True}, [])
    container.daemon = True
    return container


def _when(succeeded: bool) -> str:
    if succeeded:
        return "{{workflow.status}} == Succeeded"
    return " || ".join(f"{{{{workflow.status}}}} == {status}" for status in _FAILED)


def _hooks(manifest: Manifest, report_failures: bool) -> Iterator[tuple[str, bool, Aside, list[Spec]]]:
    for number, hook in enumerate(manifest.graph.exit_hooks):
        kind = "success" if hook.on_success else "error"
        yield f"exit-hook-{kind}-{number}", hook.on_success, {"function": hook.function}, []
    script = error_script(manifest)
    if script and report_failures:
        yield ERROR_CAPTURE, False, {"error_script": script}, []
    notifications = manifest.deployment.notifications
    if notifications is None:
        return
    for wanted, succeeded in ((notifications.on_error, False), (notifications.on_success, True)):
        if wanted:
            document = notice(manifest.deployment.name, notifications, succeeded=succeeded)
            yield f"notify-on-{'success' if succeeded else 'error'}", succeeded, document, _secrets(notifications)


def _secrets(notifications: Notifications) -> list[Spec]:
    return [
        Raw(
            "EnvVar",
            {
                "name": VARIABLE_PREFIX + key,
                "valueFrom": {"secretKeyRef": {"name": secret, "key": key, "optional": True}},
            },
        )
        for key, secret in notified_endpoints(notifications).items()
    ]


def _container(name: str, like: StepContainer, document: Aside, env: list[Spec]) -> Spec:
    return Container(
        name=name,
        image=like.container["image"],
        image_pull_policy=like.container.get("imagePullPolicy"),
        env_from=[Raw("EnvFromSource", one) for one in like.container.get("envFrom", ())] or None,
        service_account_name=like.pod.get("serviceAccountName"),
        env=[Raw("EnvVar", {"name": TASK_VARIABLE, "value": encode_inline({"aside": document})}), *env],
        resources=raw("ResourceRequirements", _RESOURCES),
    )
