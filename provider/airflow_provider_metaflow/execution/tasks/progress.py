"""What the tasks of a try have come to so far, also before Airflow deferred it."""

from __future__ import annotations

from typing import Any

from airflow_provider_metaflow.compute.remote import Progress
from metaflow_orchestration.exceptions import FinalFailureError, StepFailedError
from metaflow_orchestration.graph.identity import is_old_task_id


class TryProgress:
    """Keeps the results and failures of a try's tasks.

    :param deferred: after a deferral, what had been done before.
    :param event: after a deferral, what the trigger has seen.
    """

    def __init__(self, deferred: Progress | None = None, event: dict[str, Any] | None = None) -> None:
        self._deferred, self._event = deferred, event
        before = deferred or Progress("")
        self.done: dict[str, dict[str, Any]] = dict(before.done)
        """Outcome documents of tasks that ran in containers, by task id; in a recursion the last one only."""
        self.failed: dict[str, str] = dict(before.failed)
        """Why tasks of a pack have failed, by task id."""
        # A release that kept no names deferred the pack: all that failed in it wanted no other attempt, or none did.
        self.finals: set[str] = set(before.finals or (before.failed if before.final else ()))
        """Ids of those tasks that want no other attempt."""

    @property
    def is_resumed(self) -> bool:
        """Whether Airflow has resumed the try after a deferral."""
        return self._deferred is not None

    @property
    def run_id(self) -> str:
        """The Metaflow run that was deferred; empty if there is none, or a release before 0.2 has deferred it."""
        return self._deferred.run_id if self._deferred else ""

    @property
    def has_old_ids(self) -> bool:
        """Whether an older release has deferred the try, whose task ids differ."""
        return self._deferred is not None and is_old_task_id(self._deferred.current)

    @property
    def iteration(self) -> int:
        """The round of a recursive switch in which the try was deferred, 0 for the first and for other steps."""
        return self._deferred.iteration if self._deferred else 0

    @property
    def is_final(self) -> bool:
        """Whether tasks have failed and none of them wants another attempt."""
        return bool(self.failed) and self.finals >= self.failed.keys()

    def add_failure(self, task_id: str, error: StepFailedError) -> None:
        """Note that a task of a pack has failed.

        :param task_id: the task.
        :param error: why.
        """
        self.failed[task_id] = error.message
        if isinstance(error, FinalFailureError):
            self.finals.add(task_id)

    def take_event(self, task_id: str, *, is_array: bool) -> dict[str, Any] | None:
        """Return what the trigger has seen, once, if it waited for this task; None otherwise.

        :param task_id: the task, or the first of an array.
        :param is_array: whether an array was waited for, of which any task may be the first that has no result.
        """
        if self._deferred is None or not (self._deferred.current == task_id or is_array):
            return None
        event, self._event = self._event, None
        return event

    def at(self, task_id: str, iteration: int, run_id: str) -> Progress:
        """Return what must be known when Airflow resumes the try after a deferral.

        :param task_id: the Metaflow task that is waited for.
        :param iteration: its round of a recursive switch.
        :param run_id: the Metaflow run.
        """
        return Progress(
            task_id,
            self.done,
            iteration,
            self.failed,
            final=bool(self.finals),
            run_id=run_id,
            finals=sorted(self.finals),
        )
