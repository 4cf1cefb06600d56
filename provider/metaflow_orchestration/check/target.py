"""What an orchestrator must define so that a flow can be checked for it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Protocol

from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import MetaflowProviderError
from metaflow_orchestration.graph.validate import validate_graph

from .counts import DEFAULT_WIDTH
from .report import Report, Row, State, Topic, make_report, refused


class Target(Protocol):
    """One orchestrator, with the options of one deployment."""

    name: str

    def rows(self, manifest: Manifest, width: int, now: datetime) -> Iterator[Row]:
        """Plan and validate a flow as ``create`` does, and yield what was found out, refusals among it.

        :param manifest: the compiled flow.
        :param width: number of splits of each foreach.
        :param now: when the next runs of a schedule are counted from.
        :raises MetaflowProviderError: if ``create`` refuses the flow.
        """
        ...


def check_manifest(
    manifest: Manifest, target: Target, width: int = DEFAULT_WIDTH, now: datetime | None = None
) -> Report:
    """Return what an orchestrator would do with a compiled flow. Nothing is deployed, uploaded or asked.

    :param manifest: the compiled flow.
    :param target: the orchestrator.
    :param width: number of splits of each foreach.
    :param now: when the next runs of a schedule are counted from; now if left out.
    """
    now = now or datetime.now(timezone.utc)
    try:
        # As `create` does when it compiles, and a DAG file when it reads the manifest.
        validate_graph(manifest.graph)
        rows = list(target.rows(manifest, width, now))
    except MetaflowProviderError as error:
        rows = [refused(target.name, error)]
    else:
        if not any(row.state is State.REFUSED for row in rows):
            rows.insert(0, _supported(target.name, manifest))
    return make_report(manifest.graph.name, width, rows)


def refused_report(flow: str, target: str, width: int, error: MetaflowProviderError) -> Report:
    """Return the report of a flow that could not even be compiled for an orchestrator.

    :param flow: name of the flow.
    :param target: name of the orchestrator.
    :param width: number of splits of each foreach.
    :param error: why.
    """
    return make_report(flow, width, [refused(target, error)])


def _supported(target: str, manifest: Manifest) -> Row:
    steps = len(manifest.graph.steps)
    found = f"supported: {steps} step{'s' if steps != 1 else ''}"
    return Row(target=target, topic=Topic.SUPPORT, subject="flow", found=found)
