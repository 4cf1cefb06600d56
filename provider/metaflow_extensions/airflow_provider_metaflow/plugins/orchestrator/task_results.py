"""What tasks have left in a flow's datastore."""

from __future__ import annotations

import json
import os
from typing import Any


def flow_datastore(request: dict[str, Any]) -> Any:
    from metaflow.datastore import FlowDataStore
    from metaflow.plugins import DATASTORES

    implementation = next(d for d in DATASTORES if request["datastore"] == d.TYPE)
    return FlowDataStore(request["flow_name"], None, storage_impl=implementation, ds_root=request["datastore_root"])


def is_done(datastore: Any, run_id: str, step: str, task_id: str) -> bool:
    return _latest_done(datastore, run_id, step, task_id) is not None


def _latest_done(datastore: Any, run_id: str, step: str, task_id: str) -> Any:
    from metaflow.datastore.exceptions import DataException

    try:
        return datastore.get_task_datastore(run_id, step, task_id)
    except DataException:
        return None


def read_outcome(path: str | None) -> dict[str, Any] | None:
    if path is None or not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        outcome: dict[str, Any] = json.load(file)
    return outcome


def stored_outcome(datastore: Any, run_id: str, step: str, task_id: str, min_attempt: int) -> dict[str, Any] | None:
    """Read from the datastore what the step decorator would have reported."""
    task = _latest_done(datastore, run_id, step, task_id)
    if task is None or task.attempt < min_attempt or not task.get("_task_ok"):
        return None
    from step_decorator import describe_outcome  # type: ignore[import-not-found]

    outcome: dict[str, Any] = describe_outcome(task.get, task_id, task.attempt)
    return outcome
