"""What a run of a graph does, step by step: which tasks there are, and which tasks lead to each of them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task.task_place import task_id
from metaflow_orchestration.graph.model import FlowGraph, StepKind

Path = tuple[int, ...]
Task = tuple[str, Path, int]
"""A task: its step, its index in each foreach around it, and its iteration."""


@dataclass
class Play:
    """Plays a run of a graph, with choices and sizes by lot.

    :param outcomes: what each task says of itself, by step and task id.
    :param inputs: the pathspecs that lead to each task, in the order in which a join sees them.
    """

    graph: FlowGraph
    lot: random.Random
    outcomes: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    inputs: dict[Task, list[str]] = field(default_factory=dict)
    arrived: dict[tuple[str, Path], dict[tuple[int, ...], str]] = field(default_factory=dict)
    opened: dict[tuple[str, Path], int] = field(default_factory=dict)

    def run(self, name: str, path: Path, inputs: list[str], origin: dict[str, int], iteration: int = 0) -> None:
        step, own = self.graph.step(name), task_id(name, path, iteration)
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


def played(graph: FlowGraph, seed: int) -> Play:
    """A whole run of a graph."""
    play = Play(graph, random.Random(seed))
    play.run(graph.start, (), [], {})
    return play


def assert_same_tasks(play: Play, done: list[Task]) -> None:
    """See that a target has run each task of a run once, and none before those that lead to it.

    :param done: its tasks in the order in which they ended.
    """
    assert sorted(done) == sorted(play.inputs)
    ended = {f"{step}/{task_id(step, path, iteration)}": number for number, (step, path, iteration) in enumerate(done)}
    for number, task in enumerate(done):
        for pathspec in play.inputs[task]:
            leader = pathspec.replace("-worker-0", "")
            assert ended[leader] < number, f"{task} has run before {pathspec}, which leads to it"
