"""What tasks have left in a flow's datastore; read without unpickling any of it."""

from __future__ import annotations

import io
import json
import os
from typing import Any

from task_summary import load_summary, outcome_of, save_summary  # type: ignore[import-not-found]


def flow_datastore(request: dict[str, Any]) -> Any:
    from metaflow.datastore import FlowDataStore
    from metaflow.plugins import DATASTORES

    implementation = next(d for d in DATASTORES if request["datastore"] == d.TYPE)
    return FlowDataStore(request["flow_name"], None, storage_impl=implementation, ds_root=request["datastore_root"])


def load_record(datastore: Any, name: str) -> Any:
    """Return what :func:`save_record` has kept under a name, None if there is nothing.

    :param datastore: datastore of the flow.
    :param name: name of the record.
    """
    with datastore._storage_impl.load_bytes([_record_path(datastore, name)]) as found:
        for _, local, _ in found:
            if local is not None:
                with open(local, encoding="utf-8") as file:
                    return json.load(file)
    return None


def save_record(datastore: Any, name: str, record: Any) -> None:
    """Keep a record of an orchestrator's run beside the flow's runs, over the one before.

    :param datastore: datastore of the flow.
    :param name: name of the record.
    :param record: JSON types.
    """
    content = io.BytesIO(json.dumps(record).encode())
    datastore._storage_impl.save_bytes([(_record_path(datastore, name), content)], overwrite=True)


def _record_path(datastore: Any, name: str) -> str:
    # Outside of the flow's folder, in which each folder is a run.
    path: str = datastore._storage_impl.path_join("mf.dag_runs", datastore.flow_name, name)
    return path


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
    """Return what the step decorator has reported of a finished task; None if it has not, or the task failed."""
    task = _latest_done(datastore, run_id, step, task_id)
    if task is None or task.attempt < min_attempt:
        return None
    summary = load_summary(task)
    outcome: dict[str, Any] | None = outcome_of(summary, task_id, task.attempt) if summary else None
    return outcome


def copy_summary(datastore: Any, run_id: str, step: str, task_id: str, attempt: int, origin: str) -> None:
    """Give a clone the summary of its origin; Metaflow runs no decorators for it.

    :param datastore: datastore of the flow.
    :param run_id: run of the clone.
    :param step: its step.
    :param task_id: its task id.
    :param attempt: its attempt.
    :param origin: ``run/step/task`` of the task that was cloned.
    """
    task = _latest_done(datastore, *origin.split("/"))
    summary = load_summary(task) if task is not None else None
    if summary is None:
        return
    outcome = outcome_of(summary, task_id, attempt)
    # The nodes of a gang are known by the task ids of the run that they are in.
    if outcome is not None and task_id not in outcome.get("gang", ()):
        outcome.pop("gang", None)
    save_summary(datastore, run_id, step, task_id, attempt, {**summary, "outcome": outcome})
