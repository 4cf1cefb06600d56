"""The end of a terminated workflow: the jobs of its gangs, which Argo leaves running, are deleted."""

from __future__ import annotations

import time

from metaflow_adapters.argo.cluster.client import WORKFLOWS, ArgoCluster
from metaflow_adapters.argo.cluster.objects import ArgoObject

ACTIVE = ("", "Pending", "Running")
"""Phases of a workflow that has not ended; one that the controller has not looked at has none."""

_END_SECONDS, _PAUSE_SECONDS = 20, 1
"""How long the end of a terminated workflow is waited for, which may start a gang until then."""


def phase_of(workflow: ArgoObject) -> str:
    """Return the phase of a workflow, empty if it has none yet.

    :param workflow: the workflow.
    """
    return str(workflow.get("status", {}).get("phase") or "")


def end_gangs(cluster: ArgoCluster, workflow: ArgoObject) -> None:
    """Delete the Jobs and JobSets of a workflow that was terminated, until it has ended and makes none any more.

    :param cluster: where it runs.
    :param workflow: the workflow, as it was before.
    """
    name, kinds = workflow["metadata"]["name"], _gang_kinds(workflow)
    end = time.monotonic() + _END_SECONDS
    while kinds:
        now = cluster.find(WORKFLOWS, name)
        cluster.delete_gangs(name, kinds)
        if now is None or phase_of(now) not in ACTIVE or time.monotonic() > end:
            return
        time.sleep(_PAUSE_SECONDS)


def _gang_kinds(workflow: ArgoObject) -> set[str]:
    """Return which kinds of objects a workflow makes for its gangs: ``Job``, ``JobSet``."""
    templates = workflow.get("status", {}).get("storedWorkflowTemplateSpec", {}).get("templates", ())
    manifests = [one["resource"].get("manifest", "") for one in templates if "resource" in one]
    return {kind for kind in ("Job", "JobSet") if any(f"kind: {kind}\n" in one for one in manifests)}
