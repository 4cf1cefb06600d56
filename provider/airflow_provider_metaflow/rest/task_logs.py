"""Logs of task instances, as Airflow gives them."""

from __future__ import annotations

from typing import Any

from .client import AirflowClient, path_of


def task_log(
    client: AirflowClient,
    dag_id: str,
    dag_run_id: str,
    task_id: str,
    *,
    try_number: int = 1,
    map_index: int = -1,
    every_line: bool = True,
) -> str:
    """Return the text of a task instance's Airflow log.

    :param client: the Airflow.
    :param dag_id: the DAG.
    :param dag_run_id: Airflow's id of the run.
    :param task_id: the task.
    :param try_number: which try.
    :param map_index: which instance.
    :param every_line: whether the lines of Airflow itself are wanted, or only those of the steps, and errors.
    """
    answer = client.request(
        "GET",
        path_of("dags", dag_id, "dagRuns", dag_run_id, "taskInstances", task_id, "logs", str(try_number)),
        params={"map_index": map_index, "full_content": True},
        headers={"Accept": "application/json"},
    )
    content = answer["content"]
    if isinstance(content, str):
        return content
    return "\n".join(_log_text(line) for line in (content if every_line else _lines_of_steps(content)))


WRITTEN_BY_STEPS = ("step_log.py", "exit_hook.py")
"""Files that pass on what the user's code writes; Airflow's structured logs name the file of each line."""

_LEVELS_OF_ERRORS = ("warning", "error", "critical")


def _lines_of_steps(lines: list[Any]) -> list[Any]:
    """Return the lines that the steps have written, and all warnings and errors.

    All lines, if the log does not say where they come from (a log server may drop that).
    """
    if not any(isinstance(line, dict) and line.get("filename") for line in lines):
        return lines
    return [
        line
        for line in lines
        if not isinstance(line, dict)
        or line.get("filename") in WRITTEN_BY_STEPS
        or str(line.get("level")).lower() in _LEVELS_OF_ERRORS
    ]


def _log_text(line: Any) -> str:
    """Return an event of a structured log as text, with the errors that it carries."""
    if not isinstance(line, dict):
        return str(line)
    errors = [f"{one['exc_type']}: {one['exc_value']}" for one in line.get("error_detail") or ()]
    return "\n".join([str(line.get("event", line)), *errors])
