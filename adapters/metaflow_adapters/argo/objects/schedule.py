"""``@schedule`` as a cron workflow."""

from __future__ import annotations

import re

from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.schedule import airflow_cron, airflow_timezone

from .metadata import base_annotations, labels_of
from .spec import CronWorkflow, Spec, model

STARTING_DEADLINE_SECONDS = 3540
"""How late a run may start when the controller was away; that of Metaflow's own deployer."""

KEPT_RUNS = 10_000
"""Finished runs of a cron workflow that Argo keeps, of each kind; that of Metaflow's own deployer. Argo's defaults, 3
that succeeded and 1 that failed, delete runs that somebody wants to look at or to resume."""

POLICIES = ("Allow", "Forbid", "Replace")


def emit_cron(
    manifest: Manifest, namespace: str | None, *, policy: str | None, successful: int | None, failed: int | None
) -> Spec | None:
    """Return the cron workflow of a flow, None if it has no schedule.

    :param manifest: the compiled flow.
    :param namespace: Kubernetes namespace.
    :param policy: what happens while an earlier run still runs: ``Allow``, ``Forbid`` or ``Replace``.
    :param successful: how many runs that succeeded are kept; :data:`KEPT_RUNS`, if left out.
    :param failed: the same of runs that failed.
    :raises InvalidOptionError: if the schedule is none, or a required parameter would have no value.
    """
    graph = manifest.graph
    if graph.schedule is None:
        return None
    missing = [one.name for one in graph.parameters if one.required and one.default is None]
    if missing:
        raise InvalidOptionError(
            f"it has a schedule, and its parameter {missing[0]!r} is required and has no default.",
            flow=graph.name,
            hint="Give it a default, or remove @schedule.",
        )
    cron = airflow_cron(graph.schedule, graph.name, "Argo Workflows")
    if re.search(r"[#L]", re.sub(r"[A-Z]{3}", "", cron.upper())):
        raise InvalidOptionError(
            f"@schedule(cron={graph.schedule.cron!r}) uses L or #, which the cron of Argo Workflows does not know.",
            flow=graph.name,
            hint="Name the days of the month or of the week.",
        )
    name = manifest.deployment.name
    return CronWorkflow(
        name=name,
        namespace=namespace,
        labels=labels_of("metaflow-schedule"),
        annotations=base_annotations(manifest),
        schedules=[cron],
        timezone=airflow_timezone(graph.schedule, graph.name),
        concurrency_policy=policy,
        starting_deadline_seconds=STARTING_DEADLINE_SECONDS,
        successful_jobs_history_limit=KEPT_RUNS if successful is None else successful,
        failed_jobs_history_limit=KEPT_RUNS if failed is None else failed,
        workflow_template_ref=model("WorkflowTemplateRef", name=name),
    )
