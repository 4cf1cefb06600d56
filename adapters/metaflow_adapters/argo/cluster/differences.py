"""How an object on an Argo server differs from one here, apart from what the server adds of itself."""

from __future__ import annotations

import difflib
import json
from typing import Any

from metaflow_adapters.argo.objects.yaml_text import to_yaml
from metaflow_orchestration.containers.objects import KubernetesObject

from .objects import ArgoObject

_QUANTITIES = ("requests", "limits")


def difference(what: str, there: ArgoObject | None, here: ArgoObject) -> str:
    """Return how the specification of an object here differs from that on a server, as a unified diff.

    :param what: kind and name of the object.
    :param there: the object on the server, None if it is not there.
    :param here: the object here.
    """
    lines = difflib.unified_diff(
        _comparable(there).splitlines(keepends=True) if there is not None else [],
        _comparable(here).splitlines(keepends=True),
        f"{what} on the server",
        f"{what} here",
    )
    return "".join(lines)


def _comparable(document: ArgoObject) -> str:
    # In the order of the alphabet, which is that of a server's answers.
    spec = json.loads(json.dumps(_without_empty(document["spec"]), sort_keys=True))
    for template in spec.get("templates", []):
        _drop_shared(template, spec.get("podMetadata", {}))
    return to_yaml({"spec": spec})


def _quantities(values: dict[str, str | int | float]) -> dict[str, str]:
    """Return quantities of resources as plain numbers: the server writes 0.2 as 200m."""
    from kubernetes.utils.quantity import parse_quantity

    return {name: f"{parse_quantity(one).normalize():f}" for name, one in values.items()}


def _drop_shared(template: KubernetesObject, shared: dict[str, dict[str, str]]) -> None:
    """Drop labels and annotations of all pods: the server writes them into each template when it checks it."""
    own = template.get("metadata", {})
    for kind, values in shared.items():
        own[kind] = {name: value for name, value in own.get(kind, {}).items() if values.get(name) != value}
    template["metadata"] = _without_empty(own)
    if not template["metadata"]:
        del template["metadata"]


def _without_empty(value: Any) -> Any:
    """Drop what says nothing: the server writes out the fields that Go's types always have."""
    if isinstance(value, list):
        return [_without_empty(one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {
        name: _quantities(one) if name in _QUANTITIES and isinstance(one, dict) else _without_empty(one)
        for name, one in value.items()
    }
    return {name: one for name, one in found.items() if one not in ({}, [], None) and (name, one) != ("name", "")}
