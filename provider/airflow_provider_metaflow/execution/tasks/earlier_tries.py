"""What earlier tries of a task instance have finished: results that are taken, not made again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_metaflow.compute.local.processes import LocalCompute
from metaflow_orchestration.graph.identity import MAX_ATTEMPTS
from metaflow_orchestration.graph.model import Step
from metaflow_orchestration.run.commands import StepCall
from metaflow_orchestration.run.contexts import IndexPath
from metaflow_orchestration.run.outcome import TaskOutcome

_ITERATIONS_PER_PROBE = 256


def first_attempt(before_clear: int, *, generation: int) -> int:
    """Return the first attempt since the last clear, which may be the one that is made now.

    >>> first_attempt(8, generation=1)
    2

    :param before_clear: how many tries came before the last clear.
    :param generation: how often the six attempts that Metaflow allows were used up.
    """
    return max(before_clear - generation * MAX_ATTEMPTS, 0)


@dataclass(frozen=True, slots=True)
class EarlierTries:
    """The tries since the last clear, whose worker may have died before it could tell of a result.

    :param step: the step.
    :param minimum: the first attempt since the last clear; None if that is the one that is made now.
    :param local: returns the worker's own access to the datastore.
    :param lingering: returns which finished tasks still have a container, for which this try must see to the end.
    """

    step: Step
    minimum: int | None
    local: Callable[[], LocalCompute]
    lingering: Callable[[Sequence[StepCall]], frozenset[str]]

    def finished(self, calls: Mapping[IndexPath, StepCall]) -> dict[IndexPath, TaskOutcome]:
        """Return the outcomes of those tasks that have one.

        A recursion goes on at :meth:`last_iteration`; of a gang the control node's result says nothing of the others.

        :param calls: the tasks.
        """
        if self.minimum is None or self.step.recursive or self.step.gang:
            return {}
        documents = self._probe(list(calls.values()))
        found = {path: one for path, one in zip(calls, documents, strict=True) if one is not None}
        lingering = self._lingering([calls[path] for path in found])
        return {
            path: TaskOutcome.from_document(path, document)
            for path, document in found.items()
            if calls[path].task_id not in lingering
        }

    def last_iteration(self, path: IndexPath, call_of: Callable[[int], StepCall]) -> tuple[int, TaskOutcome | None]:
        """Return where a recursive switch goes on: the next iteration, and the outcome of the one before it.

        :param path: index in every enclosing foreach.
        :param call_of: returns the task of an iteration.
        """
        done: list[TaskOutcome] = []
        while self.minimum is not None and len(done) % _ITERATIONS_PER_PROBE == 0:
            calls = [call_of(len(done) + i) for i in range(_ITERATIONS_PER_PROBE)]
            documents = self._probe(calls, stop=True)
            done.extend(TaskOutcome.from_document(path, one) for one in documents if one is not None)
            if len(documents) < _ITERATIONS_PER_PROBE:
                break
        if done and self._lingering([call_of(len(done) - 1)]):
            done.pop()
        return len(done), done[-1] if done else None

    def _probe(self, calls: Sequence[StepCall], *, stop: bool = False) -> list[dict[str, Any] | None]:
        ids = [call.task_id for call in calls]
        run_id, minimum = calls[0].run_id, self.minimum or 0
        return self.local().probe(self.step.name, run_id, ids, min_attempt=minimum, stop=stop)

    def _lingering(self, finished: Sequence[StepCall]) -> frozenset[str]:
        return self.lingering(finished) if finished else frozenset()
