"""Which input paths each task of a step gets, from the outcomes of its parents. Free of Airflow.

The rules are those of Metaflow's own scheduler (``metaflow.runtime``) and of the checks in ``metaflow.task``. A task
without any input was not chosen by a switch and is skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from metaflow_orchestration.exceptions import MissingResultError
from metaflow_orchestration.graph.model import FlowGraph, Step, StepKind

from .contexts import IndexPath
from .outcome import TaskOutcome

Outcomes = Mapping[IndexPath, TaskOutcome]


class RunView(Protocol):
    """What a task can see of the other tasks of its run."""

    def outcomes(self, parent: Step, *, of_successes: bool = False) -> Outcomes:
        """Return the outcomes of those tasks of another step that concern this task instance.

        With ``of_successes``, leave out what task instances left behind that are skipped now and ran before a clear.
        """

    def succeeded(self, parents: Sequence[Step]) -> Mapping[str, bool]:
        """Return for each step whether its task instances that concern this one succeeded, rather than skipped.

        For parents, and the foreach that this step closes.
        """

    def stored(self, parent: Step, paths: Sequence[IndexPath]) -> Outcomes:
        """Return outcomes of finished tasks from the datastore, for task instances that reported none."""


def resolve_inputs(
    graph: FlowGraph, step: Step, items: Sequence[IndexPath], view: RunView
) -> dict[IndexPath, tuple[str, ...]]:
    """Return the input paths ``step/task`` of each task to run; tasks that were not chosen are left out.

    :param graph: the flow.
    :param step: a step with parents.
    :param items: index paths of the tasks of this task instance.
    :param view: the rest of the run.
    :raises MissingResultError: if a parent ended well, as far as Airflow knows, but has no result.
    """
    parents = [graph.step(name) for name in step.parents]
    optional = len(parents) > 1 and any(other.kind is StepKind.SWITCH for other in graph.steps)
    reported = {parent.name: dict(view.outcomes(parent, of_successes=optional)) for parent in parents}
    expected = _Expectation(graph, step, view)
    inputs = {item: _inputs_of(step, item, parents, reported, expected) for item in items}
    short = [item for item in items if len(inputs[item]) < expected.count(item)]
    if short and _recover(step, short, parents, reported, expected, view):
        inputs = {item: _inputs_of(step, item, parents, reported, expected) for item in items}
    for item in items:
        if inputs[item] and len(inputs[item]) < expected.count(item):
            raise MissingResultError(
                f"has {len(inputs[item])} of the {expected.count(item)} inputs that it joins.",
                flow=graph.name,
                step=step.name,
                hint=f"Clear the tasks of {', '.join(step.parents)} that have no result, so that they run.",
            )
    return {item: paths for item, paths in inputs.items() if paths}


def is_optional(graph: FlowGraph, step: Step) -> bool:
    """Return whether a run may leave a step out: whether a switch stands before it, which may choose another branch.

    :param graph: the flow.
    :param step: the step.
    """
    return any(
        step.name in graph.with_descendants(name)
        for switch in graph.steps
        if switch.kind is StepKind.SWITCH
        for name in switch.next_steps
    )


class _Expectation:
    """How many inputs a task must have, if it has any, and from which index paths."""

    def __init__(self, graph: FlowGraph, step: Step, view: RunView) -> None:
        self._closed = graph.step(step.closes) if step.closes else None
        self._splits: dict[IndexPath, TaskOutcome] | None = None
        self._is_lost = False
        self._view = view

    def is_foreach(self) -> bool:
        return self._closed is not None and self._closed.kind is StepKind.FOREACH

    def paths(self, item: IndexPath) -> list[IndexPath]:
        """Return the index paths of the parents' tasks, in split order."""
        if self._closed is None or not self.is_foreach():
            return [item]
        if self._splits is None:
            self._splits = dict(self._view.outcomes(self._closed))
            self._is_lost = not self._splits and self._view.succeeded([self._closed])[self._closed.name]
        if item not in self._splits and self._is_lost:
            # Its XComs were deleted, e.g. by `airflow db clean`.
            self._splits.update(self._view.stored(self._closed, [item]))
        opened = self._splits.get(item)
        return [(*item, index) for index in range(opened.num_splits or 0)] if opened else []

    def count(self, item: IndexPath) -> int:
        if self._closed is None or self._closed.kind is StepKind.PARALLEL:
            return 1
        return len(self.paths(item)) if self.is_foreach() else len(self._closed.next_steps)


def _inputs_of(
    step: Step,
    item: IndexPath,
    parents: Iterable[Step],
    reported: Mapping[str, Outcomes],
    expected: _Expectation,
) -> tuple[str, ...]:
    parents = list(parents)
    found: list[str] = []
    for path in expected.paths(item):
        for parent in parents:
            # A foreach step is the parent of all the tasks that it opens.
            outcome = reported[parent.name].get(path[: len(parent.foreach_path)])
            if outcome is not None and step.name in outcome.next_steps:
                ids = outcome.gang or (outcome.task_id,)
                found.extend(f"{parent.name}/{task_id}" for task_id in ids)
    return tuple(found)


def _recover(
    step: Step,
    short: Sequence[IndexPath],
    parents: Sequence[Step],
    reported: Mapping[str, dict[IndexPath, TaskOutcome]],
    expected: _Expectation,
    view: RunView,
) -> bool:
    """Look in the datastore for results of parents that succeeded without a report, e.g. marked by hand."""
    alive = view.succeeded(parents)
    changed = False
    for parent in parents:
        found = reported[parent.name]
        depth = len(parent.foreach_path)
        paths = dict.fromkeys(path[:depth] for item in short for path in expected.paths(item))
        missing = [path for path in paths if path not in found]
        if not missing or not alive[parent.name]:
            continue
        stored = view.stored(parent, missing)
        if not stored and not found:
            raise MissingResultError(
                f"its parent {parent.name} counts as successful in Airflow but has no Metaflow result.",
                step=step.name,
                hint=f"Marking a step as success cannot make its artifacts: clear {parent.name}, so that it runs.",
            )
        found.update(stored)
        changed = changed or bool(stored)
    return changed
