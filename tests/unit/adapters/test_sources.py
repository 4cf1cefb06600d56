"""Containers find their inputs: each shape is played, and what a task finds is compared with what led to it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.support.plays import played
from tests.support.recorded import SHAPES

from metaflow_adapters.sources import sources_of, walked_steps
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task.task_place import Finder
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.graph.model import Step


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("shape", SHAPES)
def test_a_task_finds_the_tasks_that_led_to_it(shape: str, seed: int, recorded: Callable[[str], Manifest]) -> None:
    graph = recorded(shape).graph
    play = played(graph, seed)
    for (name, path, iteration), expected in play.inputs.items():
        if name == graph.start or iteration:
            continue
        step = graph.step(name)
        finder = Finder(lambda *key: play.outcomes.get(key), walked_steps(graph, step))
        sources = sources_of(graph, step)
        assert sources is not None
        assert finder.inputs(name, sources, path) == expected, (name, path)


def test_a_result_that_is_missing_is_told(recorded: Callable[[str], Manifest]) -> None:
    graph = recorded("switch").graph
    step: Step = next(one for one in graph.steps if len(one.parents) > 1)
    finder = Finder(lambda *_: None, walked_steps(graph, step))
    with pytest.raises(LookupError, match="has no result in the datastore"):
        finder.inputs(step.name, sources_of(graph, step) or {}, ())
