"""Runs Metaflow tasks where their step runs, and defers the try while containers do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_metaflow._compat import TaskDeferred
from airflow_provider_metaflow.compute.remote import deferred_again
from airflow_provider_metaflow.execution.step_compute import StepCompute
from metaflow_orchestration.run.commands import StepCall

from .progress import TryProgress


class TaskRunner:
    """Runs the tasks of a try.

    :param compute: where they run.
    :param progress: what the tasks of the try have come to so far.
    :param parameters: for the start step, the parameters of the run.
    :param first_attempt: the first attempt since the task was cleared.
    """

    def __init__(
        self,
        compute: StepCompute,
        progress: TryProgress,
        parameters: Mapping[str, str] | None,
        first_attempt: int,
    ) -> None:
        self._compute, self._progress = compute, progress
        self._parameters, self._first_attempt = parameters, first_attempt

    def run(self, calls: Sequence[StepCall], gang: int | None, iteration: int = 0) -> list[dict[str, Any] | None]:
        """Run tasks and return their outcome documents; None where a task of an array has failed.

        :param calls: the tasks; in containers, several of them are run as one array.
        :param gang: number of nodes of a ``@parallel`` step.
        :param iteration: round of a recursive switch.
        :raises StepFailedError: if a task failed.
        :raises TaskDeferred: if Airflow's triggerer waits for them.
        """
        placement = self._compute.definition.placement
        if placement.is_local:
            return [self._compute.run_here(call, self._parameters) for call in calls]
        platform = self._compute.platform(self._first_attempt)
        current = calls[0]
        event = self._progress.take_event(current.task_id, is_array=placement.runs_arrays)
        try:
            if event is not None:
                documents = platform.resume(calls, event)
            else:
                documents = platform.run(calls, self._parameters, gang)
        except TaskDeferred as deferral:
            # What the triggerer now waits for must not end with this process.
            self._compute.leave_running()
            raise deferred_again(deferral, self._progress.at(current.task_id, iteration, current.run_id)) from None
        if len(calls) == 1 and documents[0] is not None:
            if current.step.recursive:
                # The last outcome is enough.
                self._progress.done.clear()
            self._progress.done[current.task_id] = documents[0]
        return documents

    def lingering(self, finished: Sequence[StepCall]) -> frozenset[str]:
        """Return the ids of finished tasks that still have a container which somebody must delete.

        :param finished: tasks that have a result.
        """
        if self._compute.definition.placement.is_local:
            return frozenset()
        return self._compute.platform(self._first_attempt).lingering(finished)
