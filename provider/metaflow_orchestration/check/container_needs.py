"""What the containers of a flow's steps need to be there: secrets, accounts, volumes, queues and roles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from metaflow_orchestration.containers.options import base_attributes
from metaflow_orchestration.containers.pod_fields import names_of
from metaflow_orchestration.documents.container_settings import remote_settings
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.graph.compute import Compute, attributes_of
from metaflow_orchestration.graph.model import Step

from .report import Row, need

_NAMED = {
    Compute.KUBERNETES: {"service_account": "service account", "image": "image"},
    Compute.BATCH: {
        "queue": "job queue",
        "iam_role": "role of jobs",
        "execution_role": "execution role",
        "image": "image",
    },
}
"""Attributes of a compute decorator that name what must be there, and what it is called."""


def container_needs(manifest: Manifest, target: str, computes: Mapping[str, Compute]) -> Iterator[Row]:
    """Yield what the containers of steps need, each once, with the steps that need it.

    :param manifest: the compiled flow.
    :param target: the orchestrator.
    :param computes: where each step runs.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for step in manifest.graph.steps:
        for key in _needed(manifest, step, computes[step.name]):
            found.setdefault(key, []).append(step.name)
    everywhere = len(manifest.graph.steps)
    for (kind, name), users in found.items():
        steps = list(dict.fromkeys(users))
        where = "all steps" if len(steps) == everywhere else ", ".join(steps)
        yield need(target, kind, f"{name} (of {where})", document={"name": name, "steps": steps})


def _needed(manifest: Manifest, step: Step, compute: Compute) -> Iterator[tuple[str, str]]:
    attributes: Mapping[str, Any] = base_attributes(manifest, step, compute) or {}
    for attribute, kind in _NAMED.get(compute, {}).items():
        if attributes.get(attribute):
            yield kind, str(attributes[attribute])
    if compute is Compute.KUBERNETES:
        for name in (*remote_settings(manifest).pod_secrets, *names_of(attributes.get("secrets"))):
            yield "Kubernetes secret", name
        for name in names_of(attributes.get("image_pull_secrets")):
            yield "Kubernetes secret for images", name
        for name in attributes.get("persistent_volume_claims") or {}:
            yield "persistent volume claim", str(name)
    for source in (attributes_of(step, "secrets") or {}).get("sources") or ():
        yield "secret of @secrets", _source(source)


def _source(source: Any) -> str:
    if isinstance(source, str):
        return source
    return ".".join(str(part) for part in (source.get("type"), source.get("id")) if part)
