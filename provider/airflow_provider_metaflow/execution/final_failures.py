"""Tasks of a pack that asked for no further attempt (exit code 202): the next try of the pack leaves them out.

Airflow has one task instance for the pack, and clears its XComs when a try begins; so they are kept in the flow's
datastore until the task instance is cleared.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from airflow_provider_metaflow.compute.local.processes import LocalCompute
from metaflow_orchestration.documents.structs import built

from .clears import TryCounts


@built
class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a task instance: when its DAG run was started, the tries before its last clear, and its tasks."""

    started: str
    tries: int
    failed: dict[str, str]


def load(local: LocalCompute, counts: TryCounts, before_clear: int) -> dict[str, str]:
    """Return why tasks have failed for good in tries since the last clear, by task id.

    :param local: the worker's own access to the datastore.
    :param counts: the try.
    :param before_clear: how many tries came before the last clear.
    """
    try:
        kept = msgspec.convert(local.load_record(_name(counts)), _Kept)
    except msgspec.ValidationError:  # there is none
        return {}
    return kept.failed if (kept.started, kept.tries) == (counts.started, before_clear) else {}


def save(local: LocalCompute, counts: TryCounts, before_clear: int, failed: Mapping[str, str]) -> None:
    """Keep why tasks have failed for good.

    :param local: the worker's own access to the datastore.
    :param counts: the try.
    :param before_clear: how many tries came before the last clear.
    :param failed: reasons by task id.
    """
    kept = _Kept(started=counts.started, tries=before_clear, failed=dict(failed))
    local.save_record(_name(counts), msgspec.to_builtins(kept))


def _name(counts: TryCounts) -> str:
    return f"{counts.name}.final"
