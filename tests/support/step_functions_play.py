"""Plays a run of a plan for Step Functions, as its states would follow each other, without AWS."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from metaflow_adapters.step_functions.plan.nodes import (
    ChoiceNode,
    GangNode,
    JobKind,
    JobNode,
    MapNode,
    ReadNode,
    ScopePlan,
    SplitNode,
    StopNode,
)
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task.task_place import task_id

from .plays import Path, Play, Task


@dataclass
class StepFunctionsPlay:
    """One execution.

    :param play: what its tasks say of themselves.
    :param done: its tasks in the order in which they ended.
    """

    play: Play
    lot: random.Random
    done: list[Task] = field(default_factory=list)
    rounds: dict[tuple[str, Path], int] = field(default_factory=dict)

    def run(self, scope: ScopePlan, path: Path, around: frozenset[str] = frozenset()) -> None:
        nodes = {node.name: node for node in scope.nodes}
        assert len(nodes) == len(scope.nodes), "two states of a scope have one name"
        variables: dict[str, Any] = {}
        name: str | None = scope.start
        while name is not None:
            node = nodes[name]
            if isinstance(node, StopNode):
                return
            name = self._go_on(node, path, variables, around)

    def _go_on(self, node: Any, path: Path, variables: dict[str, Any], around: frozenset[str]) -> str | None:
        if isinstance(node, ChoiceNode):
            return dict(node.ways).get(variables[node.variable], node.default)
        if isinstance(node, JobNode):
            paths = [(*path, i) for i in range(variables[node.variable])] if node.kind is JobKind.ARRAY else [path]
            for one in self.lot.sample(paths, len(paths)):
                self._task(node.step, one)
        elif isinstance(node, GangNode):
            self._task(node.step, path)
        elif isinstance(node, ReadNode):
            assert node.variable not in around, "AWS refuses a variable that a scope around it has, too"
            variables[node.variable] = self._told(node, path)
        elif isinstance(node, SplitNode):
            for branch in self.lot.sample(node.branches, len(node.branches)):
                self.run(branch, path, around | variables.keys())
        else:
            assert isinstance(node, MapNode)
            for index in self.lot.sample(range(variables[node.variable]), variables[node.variable]):
                self.run(node.body, (*path, index), around | variables.keys())
        following: str | None = node.next
        return following

    def _task(self, step: str, path: Path) -> None:
        iteration = self.rounds.get((step, path), -1) + 1
        self.rounds[step, path] = iteration
        self.done.append((step, path, iteration))

    def _told(self, node: ReadNode, path: Path) -> Any:
        outcome = self.play.outcomes[node.step, task_id(node.step, path, self.rounds[node.step, path])]
        if node.of_gang:
            return 2
        return outcome.get("num_splits", outcome["next"][0])


def play_step_functions(plan: ScopePlan, play: Play, seed: int) -> list[Task]:
    """Play a run of a plan; return its tasks in the order in which they ended."""
    run = StepFunctionsPlay(play, random.Random(seed))
    run.run(plan, ())
    return run.done
