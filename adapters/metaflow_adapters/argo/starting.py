"""Workflows that are submitted right after their template was made, which Argo's controller may not know yet."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from .cluster import WORKFLOWS, ArgoCluster, ArgoClusterError
from .ending import phase_of

_FRESH_SECONDS = 60
"""How old a template is that every controller knows: they are notified of new ones at once."""

_WAIT_SECONDS, _LOOK_SECONDS = 10.0, 0.2
_SUBMISSIONS, _PAUSE_SECONDS = 6, 1.0
_UNKNOWN = re.compile(r'workflowtemplates?\.argoproj\.io ".*" not found')


def submit(cluster: ArgoCluster, workflow: Mapping[str, Any], template: Mapping[str, Any]) -> str:
    """Start a workflow of a template, and return its name.

    A controller that has not heard of the template yet ends the workflow with an error, before any of its tasks: it is
    then submitted again under the same name.

    :param cluster: where it is to run.
    :param workflow: the workflow, with ``generateName``.
    :param template: the workflow template, as it is in the cluster.
    :raises ArgoClusterError: if the controller still does not know the template.
    """
    made = cluster.create(workflow)
    name: str = made["metadata"]["name"]
    if not _is_fresh(template, made):
        return name
    metadata = {key: value for key, value in workflow["metadata"].items() if key != "generateName"}
    for submission in range(_SUBMISSIONS):
        if not _is_lost(_looked_at(cluster, name)):
            return name
        if submission + 1 < _SUBMISSIONS:
            time.sleep(_PAUSE_SECONDS)
            cluster.delete(WORKFLOWS, name)
            cluster.create({**workflow, "metadata": {**metadata, "name": name}})
    raise ArgoClusterError(
        f"Argo's controller does not find the workflow template {template['metadata']['name']!r}, which is there.",
        hint="Check that a controller watches this namespace, and has the right to read workflow templates.",
    )


def _is_fresh(template: Mapping[str, Any], made: Mapping[str, Any]) -> bool:
    """Compare two times of the API server, whose clock may not be that of this machine."""
    first, then = (
        datetime.fromisoformat(one["metadata"]["creationTimestamp"].replace("Z", "+00:00")) for one in (template, made)
    )
    return (then - first).total_seconds() < _FRESH_SECONDS


def _looked_at(cluster: ArgoCluster, name: str) -> Mapping[str, Any]:
    """Return a workflow that the controller has looked at, or that has waited for it long enough."""
    end = time.monotonic() + _WAIT_SECONDS
    while True:
        found = cluster.find(WORKFLOWS, name)
        if found is None or phase_of(found) or time.monotonic() > end:
            return found or {}
        time.sleep(_LOOK_SECONDS)


def _is_lost(workflow: Mapping[str, Any]) -> bool:
    message = workflow.get("status", {}).get("message") or ""
    return phase_of(workflow) == "Error" and _UNKNOWN.search(message) is not None
