"""Containers find their inputs: each shape is played, and what a task finds is compared with what led to it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from airflow_provider_metaflow.flow.manifest import Manifest
from airflow_provider_metaflow.graph.model import FlowGraph, Step, StepKind
from metaflow_adapters.sources import sources_of, walked_steps
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.placed_task import Finder, task_id

SHAPES = [
    "linear", "single_step", "custom_names", "static_split", "foreach", "nested_foreach", "split_in_foreach",
    "foreach_in_split", "switch", "switch_in_foreach", "switch_in_split", "recursion", "parallel",
]  # fmt: skip
Path = tuple[int, ...]


@dataclass
class Play:
    """Plays a run of a graph, with choices and sizes by lot."""

    graph: FlowGraph
    lot: random.Random
    outcomes: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    inputs: dict[tuple[str, Path, int], list[str]] = field(default_factory=dict)
    arrived: dict[tuple[str, Path], dict[tuple[int, ...], str]] = field(default_factory=dict)
    opened: dict[tuple[str, Path], int] = field(default_factory=dict)

    def run(self, name: str, path: Path, inputs: list[str], origin: dict[str, int], iteration: int = 0) -> None:
        step, own = self.graph.step(name), task_id(path, iteration)
        self.inputs[(name, path, iteration)] = inputs
        outcome: dict[str, Any] = {"task_id": own, "next": list(step.next_steps)}
        self.outcomes[(name, own)] = outcome
        me = f"{name}/{own}"
        if step.kind is StepKind.FOREACH:
            outcome["num_splits"] = self.opened[(name, path)] = self.lot.randint(1, 3)
            for index in range(outcome["num_splits"]):
                self.deliver(step.next_steps[0], (*path, index), me, {**origin, name: index})
        elif step.kind is StepKind.SPLIT:
            self.opened[(name, path)] = len(step.next_steps)
            for index, following in enumerate(step.next_steps):
                self.deliver(following, path, me, {**origin, name: index})
        elif step.kind is StepKind.SWITCH:
            again = step.recursive and iteration < 3 and self.lot.random() < 0.6
            chosen = name if again else self.lot.choice(step.next_steps)
            outcome["next"] = [chosen]
            if again:
                self.run(name, path, [me], origin, iteration + 1)
            else:
                self.deliver(chosen, path, me, origin)
        elif step.gang:
            outcome["gang"] = [own, f"{own}-worker-0"]
            self.deliver(step.next_steps[0], path, me, origin)
        else:
            for following in step.next_steps:
                self.deliver(following, path, me, origin)

    def deliver(self, name: str, path: Path, parent: str, origin: dict[str, int]) -> None:
        step = self.graph.step(name)
        path = path[: len(step.foreach_path)]
        if step.closes is None:
            self.run(name, path, [parent], origin)
            return
        opener = self.graph.step(step.closes)
        if opener.kind is StepKind.PARALLEL:
            gang, own = parent.split("/")
            self.run(name, path, [f"{gang}/{own}", f"{gang}/{own}-worker-0"], origin)
            return
        waiting = self.arrived.setdefault((name, path), {})
        waiting[(origin[opener.name],)] = parent
        if len(waiting) == self.opened[(opener.name, path)]:
            rest = {key: value for key, value in origin.items() if key != opener.name}
            self.run(name, path, [waiting[key] for key in sorted(waiting)], rest)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("shape", SHAPES)
def test_a_task_finds_the_tasks_that_led_to_it(shape: str, seed: int, recorded: Callable[[str], Manifest]) -> None:
    graph = recorded(shape).graph
    play = Play(graph, random.Random(seed))
    play.run(graph.start, (), [], {})
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
