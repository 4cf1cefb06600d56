"""Starts runs on an embedded Airflow and watches them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from .airflow import EmbeddedAirflow, EmbeddedAirflowError

FINISHED = ("success", "failed")
_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInstance:
    """One task instance, as the REST API shows it.

    :param task_id: Airflow task id.
    :param map_index: -1 for an unmapped one.
    :param state: e.g. ``success``; None before it is scheduled.
    :param try_number: tries so far.
    :param duration: of the last try, in seconds.
    :param label: rendered map index.
    """

    task_id: str
    map_index: int
    state: str | None
    try_number: int
    duration: float | None
    label: str | None


def wait_for_dag(airflow: EmbeddedAirflow, dag_id: str, *, timeout: float = 120) -> None:
    """Wait until a DAG was parsed.

    :param airflow: the Airflow.
    :param dag_id: the DAG.
    :param timeout: seconds.
    :raises EmbeddedAirflowError: if it has an import error or does not appear in time.
    """
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        found = airflow.request("GET", "/dags", params={"dag_id_pattern": dag_id, "limit": 100})["dags"]
        if any(dag["dag_id"] == dag_id and not dag["is_stale"] for dag in found):
            return
        time.sleep(0.2)
    errors = import_errors(airflow)
    raise EmbeddedAirflowError(f"The DAG {dag_id} did not appear within {timeout} s. Import errors: {errors}")


def import_errors(airflow: EmbeddedAirflow) -> dict[str, str]:
    """Return the import errors by file name.

    :param airflow: the Airflow.
    """
    errors = airflow.request("GET", "/importErrors")["import_errors"]
    return {error["filename"]: error["stack_trace"] for error in errors}


def trigger(airflow: EmbeddedAirflow, dag_id: str, conf: Mapping[str, Any], run_id: str | None = None) -> str:
    """Unpause a DAG, start a run and return the id of the run.

    :param airflow: the Airflow.
    :param dag_id: the DAG.
    :param conf: parameters.
    :param run_id: id of the run; default: made by Airflow.
    """
    airflow.request("PATCH", f"/dags/{quote(dag_id, safe='')}", json={"is_paused": False})
    body: dict[str, Any] = {"conf": dict(conf), "logical_date": None}
    if run_id:
        body["dag_run_id"] = run_id
    answer = airflow.request("POST", f"/dags/{quote(dag_id, safe='')}/dagRuns", json=body)
    return str(answer["dag_run_id"])


def run_state(airflow: EmbeddedAirflow, dag_id: str, run_id: str) -> str:
    """Return the state of a run.

    :param airflow: the Airflow.
    :param dag_id: the DAG.
    :param run_id: the run.
    """
    return str(airflow.request("GET", _run_path(dag_id, run_id))["state"])


def task_instances(airflow: EmbeddedAirflow, dag_id: str, run_id: str) -> list[TaskInstance]:
    """Return all task instances of a run.

    :param airflow: the Airflow.
    :param dag_id: the DAG.
    :param run_id: the run.
    """
    found: list[TaskInstance] = []
    while True:
        page = airflow.request(
            "GET",
            f"{_run_path(dag_id, run_id)}/taskInstances",
            params={"limit": _PAGE, "offset": len(found)},
        )
        found.extend(
            TaskInstance(
                task_id=one["task_id"],
                map_index=one["map_index"],
                state=one["state"],
                try_number=one["try_number"],
                duration=one["duration"],
                label=one["rendered_map_index"],
            )
            for one in page["task_instances"]
        )
        if not page["task_instances"] or len(found) >= page["total_entries"]:
            return found


def wait_for_run(
    airflow: EmbeddedAirflow,
    dag_id: str,
    run_id: str,
    *,
    timeout: float = 600,
    pause: float = 0.3,
    watch: Callable[[list[TaskInstance]], None] | None = None,
) -> str:
    """Wait until a run has ended and return its state.

    :param airflow: the Airflow.
    :param dag_id: the DAG.
    :param run_id: the run.
    :param timeout: seconds.
    :param pause: seconds between two looks.
    :param watch: called with the task instances at each look.
    :raises EmbeddedAirflowError: if it does not end in time.
    """
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        state = run_state(airflow, dag_id, run_id)
        if watch is not None:
            watch(task_instances(airflow, dag_id, run_id))
        if state in FINISHED:
            return state
        time.sleep(pause)
    raise EmbeddedAirflowError(f"The run {run_id} of {dag_id} did not end within {timeout} s.")


def task_log(
    airflow: EmbeddedAirflow,
    dag_id: str,
    run_id: str,
    task_id: str,
    *,
    try_number: int = 1,
    map_index: int = -1,
) -> str:
    """Return the text of a task instance's Airflow log.

    :param airflow: the Airflow.
    :param dag_id: the DAG.
    :param run_id: the run.
    :param task_id: the task.
    :param try_number: which try.
    :param map_index: which instance.
    """
    answer = airflow.request(
        "GET",
        f"{_run_path(dag_id, run_id)}/taskInstances/{quote(task_id, safe='')}/logs/{try_number}",
        params={"map_index": map_index, "full_content": True},
        headers={"Accept": "application/json"},
    )
    content = answer["content"]
    if isinstance(content, str):
        return content
    return "\n".join(_log_text(line) for line in content)


def _log_text(line: Any) -> str:
    """Return an event of a structured log as text, with the errors that it carries."""
    if not isinstance(line, dict):
        return str(line)
    errors = [f"{one['exc_type']}: {one['exc_value']}" for one in line.get("error_detail") or ()]
    return "\n".join([str(line.get("event", line)), *errors])


def _run_path(dag_id: str, run_id: str) -> str:
    return f"/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}"
