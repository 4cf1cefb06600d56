"""Task instances of a run: their states, and how many there are of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .client import PAGE_SIZE, AirflowClient, AirflowObject, path_of

if TYPE_CHECKING:
    from .runs import DagRun

ENDED = ("success", "skipped", "failed", "upstream_failed", "removed")
"""States that a task instance does not leave by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInstance:
    """One task instance.

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


def task_instances(client: AirflowClient, dag_id: str, dag_run_id: str) -> list[TaskInstance]:
    """Return all task instances of a run, in pages.

    :param client: the Airflow.
    :param dag_id: the DAG.
    :param dag_run_id: Airflow's id of the run.
    """
    found: list[TaskInstance] = []
    while True:
        page = _instances(client, dag_id, dag_run_id, limit=1000, offset=len(found))
        found.extend(_instance(one) for one in page["task_instances"])
        if not page["task_instances"] or len(found) >= page["total_entries"]:
            return found


def count_states(client: AirflowClient, run: DagRun, tasks: tuple[str, ...]) -> dict[str, dict[str | None, int]]:
    """Return how many instances of each task are in which state.

    Takes one request for up to 100 instances; above, a number that grows with the tasks, not with their instances.

    :param client: the Airflow.
    :param run: the run.
    :param tasks: Airflow task ids.
    """
    counts: dict[str, dict[str | None, int]] = {task: {} for task in tasks}
    page = _instances(client, run.dag_id, run.dag_run_id, limit=PAGE_SIZE)
    if page["total_entries"] <= len(page["task_instances"]):
        for one in page["task_instances"]:
            states = counts.setdefault(one["task_id"], {})
            states[one["state"]] = states.get(one["state"], 0) + 1
        return counts
    for task in tasks:
        counts[task] = _count_task(client, run, task)
    return counts


def _count_task(client: AirflowClient, run: DagRun, task: str) -> dict[str | None, int]:
    states: dict[str | None, int] = {}
    left = _instances(client, run.dag_id, run.dag_run_id, limit=1, task_id=task)["total_entries"]
    for state in ("success", "running", "failed", "skipped", "upstream_failed", "queued", "up_for_retry"):
        if not left:
            return states
        count = _instances(client, run.dag_id, run.dag_run_id, limit=1, task_id=task, state=[state])["total_entries"]
        if count:
            states[state] = count
            left -= count
    if left > 0:
        states[None] = left
    return states


def _instances(client: AirflowClient, dag_id: str, dag_run_id: str, **params: Any) -> AirflowObject:
    path = path_of("dags", dag_id, "dagRuns", dag_run_id, "taskInstances")
    page: AirflowObject = client.request("GET", path, params=params)
    return page


def _instance(data: AirflowObject) -> TaskInstance:
    return TaskInstance(
        task_id=data["task_id"],
        map_index=data["map_index"],
        state=data["state"],
        try_number=data["try_number"],
        duration=data["duration"],
        label=data["rendered_map_index"],
    )
