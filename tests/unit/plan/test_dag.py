"""The plan of each shape, and that task ids stay what they are (golden files; renew with --update-golden)."""

from __future__ import annotations

import json
from collections.abc import Callable
from graphlib import TopologicalSorter
from pathlib import Path

import msgspec
import pytest

from airflow_provider_metaflow.plan.dag import plan_dag
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.graph.model import StepKind

GOLDEN = Path(__file__).parents[2] / "golden"
SHAPES = [
    "linear",
    "single_step",
    "custom_names",
    "static_split",
    "foreach",
    "nested_foreach",
    "split_in_foreach",
    "foreach_in_split",
    "switch",
    "switch_in_foreach",
    "switch_in_split",
    "recursion",
    "parallel",
]


@pytest.mark.parametrize("shape", SHAPES)
def test_graph_and_plan_are_those_of_the_last_release(
    shape: str, recorded: Callable[[str], Manifest], request: pytest.FixtureRequest
) -> None:
    graph = recorded(shape).graph
    made = {
        "graph.json": json.loads(msgspec.json.encode(graph)),
        "dag.json": json.loads(msgspec.json.encode(plan_dag(graph))),
    }
    for name, content in made.items():
        file = GOLDEN / shape / name
        if request.config.getoption("--update-golden"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(content, indent=1) + "\n")
        assert content == json.loads(file.read_text())


def test_steps_around_an_inner_foreach_stand_in_segments_of_their_own(recorded: Callable[[str], Manifest]) -> None:
    plan = plan_dag(recorded("nested_foreach").graph)
    by_segment: dict[str | None, list[str]] = {}
    for task in plan.tasks:
        by_segment.setdefault(task.segment, []).append(task.step)
    assert by_segment == {
        None: ["start", "outer_join", "end"],
        "start-foreach": ["prepare", "fan"],
        "fan-foreach": ["work"],
        "work-foreach": ["leaf", "leaf2"],
        "fan-foreach-2": ["deep_join"],
        "start-foreach-2": ["inner_join", "after_inner"],
    }
    assert {segment.group_id: segment.source for segment in plan.segments} == {
        "start-foreach": "start",
        "fan-foreach": "fan-splits",
        "work-foreach": "work-splits",
        "fan-foreach-2": "fan-splits",
        "start-foreach-2": "start",
    }


def test_a_gang_is_one_task_and_no_segment(recorded: Callable[[str], Manifest]) -> None:
    graph = recorded("parallel").graph
    assert graph.step("start").kind is StepKind.PARALLEL
    assert graph.step("train").gang
    assert graph.step("train").foreach_path == ()
    assert graph.step("gather").closes == "start"


@pytest.mark.parametrize("shape", SHAPES)
def test_no_segment_waits_for_itself(shape: str, recorded: Callable[[str], Manifest]) -> None:
    graph = recorded(shape).graph
    node = {task.step: task.segment or task.step for task in plan_dag(graph).tasks}
    before: dict[str, set[str]] = {}
    for step in graph.steps:
        before.setdefault(node[step.name], set()).update(
            node[parent] for parent in step.parents if node[parent] != node[step.name]
        )
    # Raises CycleError if a way out of a segment leads back into it.
    assert set(TopologicalSorter(before).static_order()) == set(node.values())
