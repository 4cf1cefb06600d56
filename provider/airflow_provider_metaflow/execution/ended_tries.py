"""Before Airflow 3.3: how the try before this one ended, which that try itself records.

There the clear of a running task changes no number that a later try sees (``clear_task_instances``: RESTARTING; from
3.3 on it raises the DAG run's ``clear_number``). So a try that ends without its tasks done asks for the state of its
task instance, and records whether it was cleared or has failed. A try without a record was killed with its process:
whether it was cleared is not known, so the fallback of ``@catch`` does not stand for its code, which runs again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from airflow_provider_metaflow import _compat
from airflow_provider_metaflow.compute.local.processes import LocalCompute
from metaflow_orchestration.documents.structs import built
from metaflow_orchestration.exceptions import StepNotRunnableError

from .clears import TryCounts


@built
class _Ended(msgspec.Struct, frozen=True, kw_only=True):
    """The record: when the DAG run was started, the last try that has ended, and the tries before the last clear."""

    started: str
    tries: int
    before_clear: int


@dataclass(frozen=True, slots=True)
class KnownTries:
    """What is known of the tries before this one.

    :param before_clear: how many tries came before the last clear.
    :param is_last_known: whether the last of them is known to have failed, or to have been cleared.
    """

    before_clear: int
    is_last_known: bool


@dataclass(frozen=True, slots=True)
class EndedTries:
    """The record of a task instance.

    :param counts: the try.
    :param local: returns the worker's own access to the datastore.
    """

    counts: TryCounts
    local: Callable[[], LocalCompute]

    def known(self) -> KnownTries:
        """Return what is known of the tries before this one.

        :raises MissingResultError: if the record of them cannot be read.
        """
        counted = self.counts.before_clear(self.local)
        if _compat.AIRFLOW_V_3_3_PLUS or not self.counts.tries:
            return KnownTries(before_clear=counted, is_last_known=True)
        kept = self._load()
        if kept is None:
            return KnownTries(before_clear=counted, is_last_known=False)
        return KnownTries(before_clear=max(counted, kept.before_clear), is_last_known=kept.tries == self.counts.tries)

    def record(self, ti: Any, before_clear: int) -> None:
        """Record how this try has ended, without its tasks done.

        :param ti: Airflow's task instance.
        :param before_clear: how many tries came before the last clear.
        """
        if _compat.AIRFLOW_V_3_3_PLUS:
            return
        tries = self.counts.tries + 1
        try:
            cleared = _state(ti) == "restarting"
            ended = _Ended(started=self.counts.started, tries=tries, before_clear=tries if cleared else before_clear)
            self.local().save_record(self._name, msgspec.to_builtins(ended))
        except Exception as error:  # how the step failed is what is to be seen
            ti.log.warning("The next try runs the code of the step: how this one ended was not recorded (%s)", error)

    def _load(self) -> _Ended | None:
        try:
            kept = msgspec.convert(self.local().load_record(self._name), _Ended)
        except (msgspec.ValidationError, StepNotRunnableError):  # there is none, or it cannot be read from here
            return None
        return kept if kept.started == self.counts.started and kept.tries <= self.counts.tries else None

    @property
    def _name(self) -> str:
        return f"{self.counts.name}.ended"


def _state(ti: Any) -> str | None:
    is_mapped = ti.map_index >= 0
    states = ti.get_task_states(
        dag_id=ti.dag_id, map_index=ti.map_index if is_mapped else None, task_ids=[ti.task_id], run_ids=[ti.run_id]
    )
    found: str | None = states.get(ti.run_id, {}).get(f"{ti.task_id}_{ti.map_index}" if is_mapped else ti.task_id)
    return found
