"""However many events a run is started by, and whatever their publishers put in, the run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.support.task_runs import FlowRun, MemoryMetaflow

from airflow_provider_metaflow import MetaflowDag
from airflow_provider_metaflow.compute.local.processes import LocalCompute
from airflow_provider_metaflow.plan.events import ReceivedEvent, asset_name, trigger_list, trigger_text
from metaflow_orchestration.documents.manifest import Manifest, encode_manifest
from metaflow_orchestration.graph.model import EventTrigger, FlowGraph

LIMIT_OF_LINUX = 128 * 1024
"""MAX_ARG_STRLEN: 32 pages for one variable or argument."""


def graph(*names: str) -> FlowGraph:
    triggers = tuple(EventTrigger(event=name) for name in names)
    return FlowGraph(name="F", start="start", end="end", steps=(), triggers=triggers)


def test_a_storm_of_events_starts_a_run_that_knows_the_newest_of_each_name(
    compiled: Callable[..., Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metaflow = MemoryMetaflow().install(monkeypatch)
    seen: list[LocalCompute] = []
    run_task = LocalCompute.run
    monkeypatch.setattr(LocalCompute, "run", lambda compute, *a: (seen.append(compute), run_task(compute, *a))[1])
    manifest = compiled("single_step")
    flow = replace(manifest.graph, triggers=(EventTrigger(event="order"), EventTrigger(event="refund")))
    path = tmp_path / "storm.metaflow.json"
    path.write_bytes(encode_manifest(replace(manifest, graph=flow)))
    events = [(asset_name("order"), {"id": f"order-{n}", "note": "x" * 200}) for n in range(5000)]
    run = FlowRun(MetaflowDag(path), events=[*events, (asset_name("refund"), {"id": "refund-1"})])
    run.run_all("only")
    assert metaflow.ran() == ["only/t"]
    (compute,) = seen
    assert [one["id"] for one in json.loads(compute.variables["METAFLOW_ORCHESTRATOR_TRIGGERS"])] == [
        "order-4999",
        "refund-1",
    ]
    assert max(len(value) for value in compute.variables.values()) < LIMIT_OF_LINUX


@pytest.mark.parametrize("letter", ["x", "é", "\U0001f600", '"', "\0"])
def test_long_ids_and_many_names_of_events_fit_into_a_variable(letter: str) -> None:
    payload = {"id": letter * 300_000}
    events = [ReceivedEvent(name=f"{letter * 200}{n}", payload=payload, timestamp=float(n)) for n in range(900)]
    text = trigger_text(graph(), events)
    assert len(text.encode()) < LIMIT_OF_LINUX // 2
    found = json.loads(text)
    assert found
    # The newest are those that stay.
    assert found[-1]["name"].endswith("899")


@pytest.mark.parametrize(
    "given", [float("nan"), float("inf"), -float("inf"), 1e300, 10**400, -1, True, "now", None, [1], {"a": 1}]
)
def test_a_publishers_time_that_is_none_stops_no_run(given: Any) -> None:
    from datetime import datetime

    (found,) = trigger_list(graph("e"), [ReceivedEvent(name="e", payload={"timestamp": given}, timestamp=77.5)])
    assert found["timestamp"] == (1 if given is True else 77)
    assert datetime.fromtimestamp(found["timestamp"])
