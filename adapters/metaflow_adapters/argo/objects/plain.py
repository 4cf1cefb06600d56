"""The plain data of Kubernetes' API for what the emitters build, in the order and the words of Hera's own output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from metaflow_orchestration.containers.objects import KubernetesObject

from .spec import Fields, Raw, Spec

Writer = Callable[[Fields], KubernetesObject]
"""Writes an object of one of Hera's classes, whose arguments are given, as JSON types."""

_API_VERSION = "argoproj.io/v1alpha1"
_MAPS = ("annotations", "labels", "limits", "nodeSelector", "requests")
"""What holds names of users; all else are fields, and sorted."""

_WORDS = {"pod_gc": "podGC"}
_IN_METADATA = ("name", "namespace", "labels", "annotations")
_IN_CONTAINER = (
    "image", "image_pull_policy", "command", "termination_message_path", "env", "env_from", "ports", "resources",
    "volume_mounts", "security_context",
)  # fmt: skip
_IN_RESOURCE = ("action", "manifest", "set_owner_reference", "success_condition", "failure_condition")


def plain(value: Any) -> Any:
    """Return a tree as JSON types.

    :param value: a :class:`~.spec.Spec`, or lists and plain data with some in them.
    """
    return _sorted(_plain(value))


def _sorted(value: Any) -> Any:
    if isinstance(value, list):
        return [_sorted(one) for one in value]
    if not isinstance(value, dict):
        return value
    # Copies: YAML writes an anchor where an object stands twice.
    return {key: dict(value[key]) if key in _MAPS else _sorted(value[key]) for key in sorted(value)}


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, Raw):
        return value.fields["data"]
    if not isinstance(value, Spec):
        return value
    return _KINDS.get(value.kind, _fields)(_given(value))


def _given(spec: Spec) -> Fields:
    return {name: _plain(one) for name, one in spec.fields.items() if one is not None}


def _word(name: str) -> str:
    head, *rest = name.split("_")
    return _WORDS.get(name) or head + "".join(part.title() for part in rest)


def _fields(given: Fields) -> KubernetesObject:
    return {_word(name): value for name, value in given.items()}


def _split(given: Fields, *groups: tuple[str, ...]) -> list[KubernetesObject]:
    """Return the fields of each group, and then those of none."""
    known = {name for group in groups for name in group}
    parts = [{name: given[name] for name in group if name in given} for group in groups]
    return [*map(_fields, parts), _fields({name: value for name, value in given.items() if name not in known})]


def _task(given: Fields) -> KubernetesObject:
    found = _fields(given)
    if "arguments" in found:
        found["arguments"] = {"parameters": found["arguments"]}
    return found


def _template(given: Fields, kind: str, content: Any) -> KubernetesObject:
    metadata, rest = _split(given, ("labels", "annotations"))
    metadata = {name: value for name, value in metadata.items() if value}
    for name in ("inputs", "outputs"):
        if name in rest:
            rest[name] = {"parameters": rest[name]}
    return {**rest, **({"metadata": metadata} if metadata else {}), kind: content}


def _of(kind: str, own: tuple[str, ...]) -> Writer:
    """Return how a template is written whose own fields stand in a part of their own."""

    def written(given: Fields) -> KubernetesObject:
        content = _fields({name: given[name] for name in own if name in given})
        return _template({name: value for name, value in given.items() if name not in own}, kind, content)

    return written


def _steps(given: Fields) -> KubernetesObject:
    # One after the other; those of an inner list at once.
    groups = [one if isinstance(one, list) else [one] for one in given["sub_steps"]]
    return _template({name: value for name, value in given.items() if name != "sub_steps"}, "steps", groups)


def _workflow_template(given: Fields) -> KubernetesObject:
    metadata, spec = _split(given, _IN_METADATA)
    if "arguments" in spec:
        spec["arguments"] = {"parameters": spec["arguments"]}
    return {"apiVersion": _API_VERSION, "kind": "WorkflowTemplate", "metadata": metadata, "spec": spec}


def _cron_workflow(given: Fields) -> KubernetesObject:
    metadata, workflow, spec = _split(given, _IN_METADATA, ("workflow_template_ref",))
    return {
        "apiVersion": _API_VERSION,
        "kind": "CronWorkflow",
        "metadata": metadata,
        "spec": {**spec, "workflowSpec": workflow},
    }


_KINDS: dict[str, Writer] = {
    "Container": _of("container", _IN_CONTAINER),
    "CronWorkflow": _cron_workflow,
    "DAG": _of("dag", ("tasks",)),
    "Resource": _of("resource", _IN_RESOURCE),
    "Step": _task,
    "Steps": _steps,
    "Suspend": _of("suspend", ("duration",)),
    "Task": _task,
    "WorkflowTemplate": _workflow_template,
}
