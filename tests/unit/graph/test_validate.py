from __future__ import annotations

import pytest
from msgspec.structs import replace

from metaflow_orchestration.exceptions import FlowCompileError, UnsupportedFeatureError
from metaflow_orchestration.graph.compute import validate_compute
from metaflow_orchestration.graph.model import (
    Decorator,
    FlowGraph,
    Parameter,
    ParameterType,
    Schedule,
    Step,
    StepKind,
)
from metaflow_orchestration.graph.validate import validate_graph

START = Step(name="start", kind=StepKind.LINEAR, next_steps=("end",))
END = Step(name="end", kind=StepKind.END, parents=("start",))
GRAPH = FlowGraph(name="F", start="start", end="end", steps=(START, END))


def test_a_sound_graph_passes() -> None:
    validate_graph(GRAPH)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (replace(GRAPH, steps=(START, START, END)), "a step stands twice"),
        (replace(GRAPH, start="begin"), "'begin' step is missing"),
        (replace(GRAPH, steps=(replace(START, next_steps=("gone",)), END)), "step start: refers to an unknown step"),
        (replace(GRAPH, steps=(END, START)), "step end: comes before its parent 'start'"),
        (replace(GRAPH, steps=(START, replace(END, kind=StepKind.JOIN))), "step end: is a join that closes no split"),
        (
            replace(
                GRAPH,
                parameters=(
                    Parameter(name="alpha", variable="a", type=ParameterType.INT),
                    Parameter(name="Alpha", variable="b", type=ParameterType.INT),
                ),
            ),
            "parameter 'Alpha' is specified twice",
        ),
        (
            replace(
                GRAPH,
                schedule=Schedule(cron="0 0 * * ? *"),
                parameters=(Parameter(name="alpha", variable="a", type=ParameterType.INT, required=True),),
            ),
            "parameter 'alpha' has no default, yet the flow has a @schedule",
        ),
    ],
)
def test_a_broken_graph_is_refused_with_flow_and_step(graph: FlowGraph, message: str) -> None:
    with pytest.raises(FlowCompileError, match="flow F") as caught:
        validate_graph(graph)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["slurm", "nvidia", "snowpark"])
def test_compute_that_only_metaflow_can_start_is_refused_with_the_step(name: str) -> None:
    step = replace(START, decorators=(Decorator(name=name, attributes={}),))
    with pytest.raises(UnsupportedFeatureError, match=f"flow F step start: @{name} asks for compute that cannot"):
        validate_compute(replace(GRAPH, steps=(step, END)), "local")


def test_an_environment_that_needs_remote_compute_is_refused() -> None:
    with pytest.raises(UnsupportedFeatureError, match="--environment=conda"):
        validate_compute(GRAPH, "conda")
