"""What tasks have left in a flow's datastore; read without unpickling any of it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import origin_tasks  # type: ignore[import-not-found]
from resumed_run import find_parameters  # type: ignore[import-not-found]
from task_documents import load_json, save_json  # type: ignore[import-not-found]
from task_summary import load_summary, outcome_of, save_summary  # type: ignore[import-not-found]

if TYPE_CHECKING:
    from .task_documents import Outcome, StoredFlow, Summary


def flow_datastore(flow: StoredFlow) -> Any:
    """Return Metaflow's datastore of a flow.

    :param flow: any document that names it.
    """
    from metaflow.datastore import FlowDataStore
    from metaflow.plugins import DATASTORES

    implementation = next(d for d in DATASTORES if flow["datastore"] == d.TYPE)
    return FlowDataStore(flow["flow_name"], None, storage_impl=implementation, ds_root=flow["datastore_root"])


def load_record(datastore: Any, name: str) -> Any:
    """Return what :func:`save_record` has kept under a name, None if there is nothing.

    :param datastore: datastore of the flow.
    :param name: name of the record.
    """
    return load_json(datastore._storage_impl, _record_path(datastore, name))


def save_record(datastore: Any, name: str, record: Any) -> None:
    """Keep a record of an orchestrator's run beside the flow's runs, over the one before.

    :param datastore: datastore of the flow.
    :param name: name of the record.
    :param record: JSON types.
    """
    save_json(datastore._storage_impl, _record_path(datastore, name), record)


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


def read_outcome(path: str) -> Outcome | None:
    """Return the outcome document that the step decorator has written, None if it has written none.

    :param path: the file.
    """
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        outcome: Outcome = json.load(file)
    return outcome


def stored_outcome(datastore: Any, run_id: str, step: str, task_id: str, min_attempt: int) -> Outcome | None:
    """Return what the step decorator has reported of a finished task; None if it has not, or the task failed."""
    task = _latest_done(datastore, run_id, step, task_id)
    if task is None or task.attempt < min_attempt:
        return None
    summary = load_summary(task)
    outcome: Outcome | None = outcome_of(summary, task_id, task.attempt) if summary else None
    return outcome


def any_outcome(datastore: Any, run_id: str, step: str, task_id: str) -> Outcome | None:
    """Return the outcome document of a finished task, whoever has run it.

    :param datastore: datastore of the flow.
    :param run_id: Metaflow run id.
    :param step: the step.
    :param task_id: Metaflow task id.
    """
    summary = _any_summary(datastore, run_id, step, task_id)
    outcome: Outcome | None = outcome_of(summary, task_id, 0) if summary else None
    return outcome


def _any_summary(datastore: Any, run_id: str, step: str, task_id: str) -> Summary | None:
    task = _latest_done(datastore, run_id, step, task_id)
    if task is None:
        return None
    summary: Summary | None = load_summary(task) or origin_tasks.make_summary(datastore, task)
    return summary


def node_ids(gang: list[str], own: str) -> list[str]:
    """Return the task ids that the clones of a gang's nodes have.

    :param gang: task ids of the origin's nodes, the control node first.
    :param own: task id of the clone of the control node.
    """
    control, *others = gang
    suffixes = [
        one[len(control) :] if one.startswith(control) else "_node_%d" % number
        for number, one in enumerate(others, start=1)
    ]
    return [own, *(own + suffix for suffix in suffixes)]


def _has_parameters_of(datastore: Any, run_id: str, summary: Summary) -> bool:
    own = find_parameters(datastore, run_id)
    keys = own.ds_metadata["objects"] if own is not None else {}
    known = {name: one.get("key") for name, one in summary["artifacts"].items()}
    return all(name in known and known[name] == keys.get(name) for name in summary.get("parameters") or ())


def copy_summary(datastore: Any, run_id: str, step: str, task_id: str, attempt: int, origin: str) -> None:
    """Give a clone the summary of its origin; Metaflow runs no decorators for it.

    :param datastore: datastore of the flow.
    :param run_id: run of the clone.
    :param step: its step.
    :param task_id: its task id.
    :param attempt: its attempt.
    :param origin: ``run/step/task`` of the task that was cloned.
    """
    summary = _any_summary(datastore, *origin.split("/"))
    if summary is None:
        return
    if not _has_parameters_of(datastore, run_id, summary):
        # Whoever looks at the run shall not take those of the origin for its own.
        summary.pop("parameters", None)
    outcome: Outcome | None = outcome_of(summary, task_id, attempt)
    if outcome is not None and outcome.get("gang"):
        outcome["gang"] = node_ids(outcome["gang"], task_id)
    summary["outcome"] = outcome
    save_summary(datastore, run_id, step, task_id, attempt, summary)
