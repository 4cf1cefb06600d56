"""Which tries of a task instance were made since it was last cleared.

Airflow's worker sees a count of tries and how many are granted, and both stay as they are when a task is cleared while
it runs (``clear_task_instances``: RESTARTING). What such a clear does raise is the DAG run's ``clear_number``, so the
first try that sees a new one keeps it in the flow's datastore, with the number of tries before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from airflow_provider_metaflow import _compat
from airflow_provider_metaflow.compute.local.processes import LocalCompute
from metaflow_orchestration.documents.structs import built
from metaflow_orchestration.exceptions import MissingResultError, StepNotRunnableError
from metaflow_orchestration.graph.identity import Attempt, attempt_of, fallback_retries
from metaflow_orchestration.graph.model import Retry


@built
class _Counted(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a task instance: when its DAG run was started, how often it was cleared, and the tries before."""

    started: str
    clears: int
    tries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TryCounts:
    """What a try of a task instance knows of its number.

    :param name: of its record in the datastore.
    :param started: when the DAG run was started, by which it differs from another of its id that was deleted.
    :param clears: how often tasks of the DAG run were cleared; of any task, since Airflow counts no others.
    :param tries: how many tries came before this one.
    :param max_tries: number of the last try that Airflow grants, 0 for the first.
    :param retries: retries that the DAG grants as it is deployed now.
    """

    name: str
    started: str
    clears: int
    tries: int
    max_tries: int
    retries: int

    @property
    def may_follow_a_clear(self) -> bool:
        """Whether a task of the DAG run may have been cleared: before Airflow 3.3, nothing tells."""
        return self.clears > 0 or not _compat.AIRFLOW_V_3_3_PLUS

    def attempt(self, retry: Retry, before_clear: int, *, may_fall_back: bool) -> Attempt:
        """Return which Metaflow attempt this try makes.

        :param retry: how often the step may be attempted again.
        :param before_clear: how many tries came before the last clear.
        :param may_fall_back: whether the fallback of ``@catch`` may stand for the code that the try before ran.
        """
        fallbacks = fallback_retries(retry.user, retry.error, granted=self.max_tries - before_clear)
        return attempt_of(
            self.tries,
            # One more try than is granted comes after a clear during the last.
            tries_left=max(self.max_tries - self.tries, 0),
            error_retries=fallbacks if may_fall_back else 0,
        )

    def before_clear(self, local: Callable[[], LocalCompute]) -> int:
        """Return how many tries came before the last clear.

        Where another task was cleared during the try before this one, that counts, too: it cannot be told apart, and
        whatever is in doubt runs again.

        :param local: returns the worker's own access to the datastore.
        :raises MissingResultError: if the record cannot be read.
        """
        if not _compat.AIRFLOW_V_3_3_PLUS:
            # Before 3.3 the clears of a DAG run that still runs are not counted.
            return max(min(self.tries, self.max_tries - self.retries), 0)
        if not self.clears:
            return 0
        try:
            return self._since(local)
        except StepNotRunnableError:
            # This worker cannot reach the datastore, only pods and jobs can: whatever is in doubt runs again.
            return self.tries

    def _since(self, local: Callable[[], LocalCompute]) -> int:
        kept = self._load(local()) if self.tries else None
        if kept is not None and (kept.started, kept.clears) == (self.started, self.clears):
            return min(kept.tries, self.tries)
        if self.tries or self.retries:
            # Without retries another try comes after a clear only.
            counted = _Counted(started=self.started, clears=self.clears, tries=self.tries)
            local().save_record(self.name, msgspec.to_builtins(counted))
        return self.tries

    def _load(self, local: LocalCompute) -> _Counted | None:
        data = local.load_record(self.name)
        try:
            return None if data is None else msgspec.convert(data, _Counted)
        except msgspec.ValidationError as error:
            raise MissingResultError(
                f"the record of its tries in the datastore, mf.dag_runs/…/{self.name}, cannot be read ({error}).",
                hint="Delete that object, and clear the task.",
            ) from None
