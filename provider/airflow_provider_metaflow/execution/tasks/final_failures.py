"""Tasks of a pack that asked for no further attempt (exit code 202): the next try of the pack leaves them out.

Airflow has one task instance for the pack, and clears its XComs when a try begins; so they are kept in the flow's
datastore until the task instance is cleared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from airflow_provider_metaflow.compute.local.processes import LocalCompute
from airflow_provider_metaflow.execution.clears import TryCounts
from metaflow_orchestration.documents.structs import built


@built
class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a task instance: when its DAG run was started, the tries before its last clear, and its tasks."""

    started: str
    tries: int
    failed: dict[str, str]


@dataclass(frozen=True, slots=True)
class FinalFailures:
    """The record of a task instance.

    :param counts: the try.
    :param before_clear: how many tries came before the last clear.
    :param local: returns the worker's own access to the datastore.
    """

    counts: TryCounts
    before_clear: int
    local: Callable[[], LocalCompute]

    def load(self) -> dict[str, str]:
        """Return why tasks have failed for good in tries since the last clear, by task id."""
        try:
            kept = msgspec.convert(self.local().load_record(self._name), _Kept)
        except msgspec.ValidationError:  # there is none
            return {}
        return kept.failed if (kept.started, kept.tries) == (self.counts.started, self.before_clear) else {}

    def save(self, failed: Mapping[str, str]) -> None:
        """Keep why tasks have failed for good.

        :param failed: reasons by task id.
        """
        kept = _Kept(started=self.counts.started, tries=self.before_clear, failed=dict(failed))
        self.local().save_record(self._name, msgspec.to_builtins(kept))

    @property
    def _name(self) -> str:
        return f"{self.counts.name}.final"
