"""What `create` says of a flow that is deployed as a DAG file."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from airflow_provider_metaflow.deploy.dag_file import warnings
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.graph.model import EventTrigger


def test_a_flow_that_waits_for_a_step_of_another_names_how_that_one_must_be_deployed(
    recorded: Callable[[str], Manifest],
) -> None:
    manifest = recorded("linear")
    events = ("metaflow.Up.train", "metaflow.Up.end", "orders.new")
    graph = replace(manifest.graph, triggers=tuple(EventTrigger(event=one) for one in events))
    assert list(warnings(manifest)) == []
    assert list(warnings(replace(manifest, graph=graph))) == [
        "flow LinearFlow: the event metaflow.Up.train comes only from a flow that was deployed with --emit-step-events."
    ]


@pytest.mark.parametrize(
    ("executor", "is_warned_of"),
    [(None, True), ("LocalExecutor,KubernetesExecutor", True), ("KubernetesExecutor", False)],
)
def test_resources_are_warned_of_where_they_may_not_count(
    executor: str | None,
    is_warned_of: bool,
    recorded: Callable[[str], Manifest],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AIRFLOW__CORE__EXECUTOR", raising=False)
    if executor is not None:
        monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
    found = [one for one in warnings(recorded("decorated/careful")) if "@resources" in one]
    assert bool(found) is is_warned_of
    assert all(one.startswith("flow CarefulFlow: @resources of fit, train counts on") for one in found)
