"""Workflows that are submitted right after their template has changed, which Argo's controller may not know yet."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from metaflow_adapters.argo.cluster.client import TEMPLATES, WORKFLOWS, ArgoCluster
from metaflow_adapters.argo.cluster.namespace import ArgoClusterError
from metaflow_adapters.argo.cluster.objects import ArgoObject, ObjectMeta
from metaflow_orchestration.containers.command import FLOW_VARIABLE, TASK_VARIABLE

from .ending import phase_of

_FRESH_SECONDS = 60
"""How old a template is that every controller knows: they are notified of new ones at once."""

_WAIT_SECONDS, _LOOK_SECONDS = 10.0, 0.2
_SUBMISSIONS, _PAUSE_SECONDS = 6, 1.0
_UNKNOWN = re.compile(r'workflowtemplates?\.argoproj\.io ".*" not found')


def submit(cluster: ArgoCluster, workflow: ArgoObject, template: ArgoObject) -> str:
    """Start a workflow of a template, and return its name.

    A controller that has not heard of the template yet ends the workflow with an error, before any of its tasks: it is
    then submitted again under the same name. One that has not heard of the latest version starts an earlier one: it is
    deleted, and submitted again under another name, for the first may have stored something.

    :param cluster: where it is to run.
    :param workflow: the workflow, with ``generateName``.
    :param template: the workflow template, as it is in the cluster.
    :raises ArgoClusterError: if the controller still does not know the template.
    """
    made = cluster.create(workflow)
    name = made["metadata"]["name"]
    if not _is_fresh(template, made):
        return name
    metadata = workflow["metadata"].copy()
    metadata.pop("generateName")
    for submission in range(_SUBMISSIONS):
        found = _looked_at(cluster, name)
        lost = _is_lost(found)
        if not lost and not _is_outdated(found, cluster.find(TEMPLATES, template["metadata"]["name"])):
            return name
        cluster.delete(WORKFLOWS, name)
        if submission + 1 < _SUBMISSIONS:
            time.sleep(_PAUSE_SECONDS)
            again: ObjectMeta = {**metadata, "name": name} if lost else workflow["metadata"]
            name = cluster.create({**workflow, "metadata": again})["metadata"]["name"]
    raise ArgoClusterError(
        f"Argo's controller does not find the workflow template {template['metadata']['name']!r}, or not its latest "
        "version.",
        hint="Check that a controller watches this namespace, and has the right to read workflow templates.",
    )


def _is_fresh(template: ArgoObject, made: ArgoObject) -> bool:
    """Compare times of the API server, whose clock may not be that of this machine."""
    metadata = template["metadata"]
    changes = [one.get("time") for one in metadata.get("managedFields") or ()]
    changed = max(_time(one) for one in (metadata["creationTimestamp"], *changes) if one)
    return (_time(made["metadata"]["creationTimestamp"]) - changed).total_seconds() < _FRESH_SECONDS


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _is_outdated(workflow: ArgoObject, template: ArgoObject | None) -> bool:
    """Return whether a workflow runs other steps, or other code, than its template holds now."""
    stored = workflow.get("status", {}).get("storedWorkflowTemplateSpec")
    if not stored or template is None:
        return False
    return _documents(stored) != _documents(template["spec"])


def _documents(spec: Mapping[str, Any]) -> list[str]:
    """Return what says of each step what it runs; all else the controller may write in other words."""
    templates = [spec.get("templateDefaults") or {}, *spec.get("templates", ())]
    variables = [one for template in templates for one in (template.get("container") or {}).get("env") or ()]
    return [one.get("value", "") for one in variables if one["name"] in (FLOW_VARIABLE, TASK_VARIABLE)]


def _looked_at(cluster: ArgoCluster, name: str) -> ArgoObject:
    """Return a workflow that the controller has looked at, or that has waited for it long enough."""
    end = time.monotonic() + _WAIT_SECONDS
    while True:
        found = cluster.find(WORKFLOWS, name)
        if found is None or phase_of(found) or time.monotonic() > end:
            return found or {}
        time.sleep(_LOOK_SECONDS)


def _is_lost(workflow: ArgoObject) -> bool:
    message = workflow.get("status", {}).get("message") or ""
    return phase_of(workflow) == "Error" and _UNKNOWN.search(message) is not None
