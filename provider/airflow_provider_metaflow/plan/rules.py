"""What Airflow refuses when it imports a DAG: checked there, and by `airflow create`, so that what deploys imports."""

from __future__ import annotations

from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.schedule import airflow_cron, airflow_timezone

MAX_TAG = 100
"""Longest tag of a DAG (``airflow.models.dag.TAG_MAX_LEN``); Metaflow takes 500 characters."""


def check_rules(manifest: Manifest) -> None:
    """Check that Airflow takes the tags and the schedule of a flow.

    :param manifest: the compiled flow.
    :raises InvalidOptionError: naming what it refuses.
    """
    graph = manifest.graph
    long = next((tag for tag in manifest.deployment.tags if len(tag) > MAX_TAG), None)
    if long is not None:
        raise InvalidOptionError(
            f"its tag {long[:40]}… has {len(long)} characters; Airflow takes {MAX_TAG}.",
            flow=graph.name,
            hint="Give a shorter --tag.",
        )
    if graph.schedule is not None:
        airflow_cron(graph.schedule, graph.name)
        airflow_timezone(graph.schedule, graph.name)
