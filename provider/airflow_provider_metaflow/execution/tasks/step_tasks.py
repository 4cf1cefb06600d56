"""Metaflow tasks of a step: single ones with all rounds of a recursive switch, or several as one array."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_metaflow.execution.step_definition import StepDefinition
from metaflow_orchestration.exceptions import StepFailedError
from metaflow_orchestration.graph.model import StepKind
from metaflow_orchestration.run.commands import StepCall
from metaflow_orchestration.run.contexts import IndexPath
from metaflow_orchestration.run.inputs import RunView
from metaflow_orchestration.run.outcome import TaskOutcome

from .calls import ExecutedTasks, TaskCalls, pathspec
from .clones import OriginClones
from .earlier_tries import EarlierTries
from .progress import TryProgress
from .runner import TaskRunner

Inputs = Mapping[IndexPath, tuple[str, ...]]
"""``run/step/task`` of the tasks that each task takes artifacts from, by its index path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTasks:
    """Finds the results of tasks of a step, or runs them.

    :param definition: the step.
    :param view: the rest of the run.
    :param calls: makes the calls of the tasks.
    :param runner: runs them.
    :param clones: clones what the origin of a resumed run has finished; None if nothing is to be cloned.
    :param earlier: what earlier tries have finished.
    :param progress: what the tasks of this try have come to so far.
    :param executed: gets the tasks that are run.
    :param log: logger of the operator.
    """

    definition: StepDefinition
    view: RunView
    calls: TaskCalls
    runner: TaskRunner
    clones: OriginClones | None
    earlier: EarlierTries
    progress: TryProgress
    executed: ExecutedTasks
    log: Any

    def finished(self, inputs: Inputs) -> dict[IndexPath, TaskOutcome]:
        """Return the outcomes of those tasks that earlier tries have finished.

        :param inputs: the tasks.
        """
        return self.earlier.finished({path: self.calls.call(path, paths) for path, paths in inputs.items()})

    def run(self, path: IndexPath, inputs: tuple[str, ...]) -> TaskOutcome:
        """Run a task, or clone it; return its outcome, of a recursive switch that of the last round.

        :param path: index in every enclosing foreach.
        :param inputs: ``run/step/task`` of the tasks that it takes artifacts from.
        :raises StepFailedError: if it failed.
        :raises TaskDeferred: if Airflow's triggerer waits for it.
        """
        step = self.definition.step
        if not step.recursive:
            return self._run_round(path, inputs, 0)
        iteration, outcome = self._deferred_round(path) or self.earlier.last_iteration(
            path, lambda number: self.calls.call(path, inputs, number)
        )
        while outcome is None or step.name in outcome.next_steps:
            if outcome is not None:
                inputs = (f"{self.calls.run_id}/{step.name}/{outcome.task_id}",)
            outcome = self._run_round(path, inputs, iteration)
            iteration += 1
        return outcome

    def clone(self, call: StepCall, path: IndexPath, iteration: int = 0) -> TaskOutcome | None:
        """Clone the origin's task, if this run is resumed and nothing before it was run again.

        :param call: the task.
        :param path: index in every enclosing foreach.
        :param iteration: round of a recursive switch.
        """
        if self.clones is None or self.executed.pathspecs:
            return None
        return self.clones.clone(call, path, iteration)

    def run_array(self, calls: Mapping[IndexPath, StepCall]) -> dict[IndexPath, TaskOutcome]:
        """Run tasks as one array of the platform; return the outcomes of those that have not failed.

        :param calls: the tasks.
        :raises TaskDeferred: if Airflow's triggerer waits for them.
        """
        self.executed.add(self.definition.graph.name, calls.values())
        documents = self.runner.run(list(calls.values()), None)
        ended = [(path, one) for path, one in zip(calls, documents, strict=True) if one is not None]
        return {path: TaskOutcome.from_document(path, one) for path, one in ended}

    def _deferred_round(self, path: IndexPath) -> tuple[int, TaskOutcome | None] | None:
        """Return where a recursive switch was deferred, None if this task was not."""
        iteration = self.progress.iteration
        if not iteration:
            return None
        document = self.progress.done.get(self.calls.task_id(path, iteration - 1))
        return None if document is None else (iteration, TaskOutcome.from_document(path, document))

    def _run_round(self, path: IndexPath, inputs: tuple[str, ...], iteration: int) -> TaskOutcome:
        graph, step = self.definition.graph, self.definition.step
        call = self.calls.call(path, inputs, iteration)
        if call.task_id in self.progress.done:
            return TaskOutcome.from_document(path, self.progress.done[call.task_id])
        cloned = self.clone(call, path, iteration)
        if cloned is not None:
            return cloned
        self.executed.add(graph.name, [call])
        self.log.info("Metaflow task %s, attempt %d", pathspec(graph.name, call), call.attempt)
        (document,) = self.runner.run([call], self._gang_size(path), iteration)
        outcome = TaskOutcome.from_document(path, document or {})
        if step.kind is StepKind.FOREACH and not outcome.num_splits:
            raise StepFailedError("its foreach has no size.", flow=graph.name, step=step.name)
        return outcome

    def _gang_size(self, path: IndexPath) -> int | None:
        """Return how many nodes the step before has asked for."""
        step = self.definition.step
        if not step.gang or self.definition.placement.is_local:
            return None
        parent = self.definition.graph.step(step.parents[0])
        outcome = self.view.outcomes(parent).get(path[: len(parent.foreach_path)])
        return outcome.num_parallel if outcome else None
