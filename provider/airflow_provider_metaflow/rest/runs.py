"""Runs of deployed flows: start, find, watch, end, and run again from the failed step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from airflow_provider_metaflow.formats import ParamValues
from airflow_provider_metaflow.plan.events import ReceivedEvent, event_of, read_payload
from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.identity import RUN_KEY, airflow_run_id, first_run_id, reported_run_id

from .client import PAGE_SIZE, AirflowApiError, AirflowClient, AirflowObject, ConflictError, NotFoundError, path_of
from .task_instances import TaskInstance, task_instances

STATUS = {"queued": "PENDING", "running": "RUNNING", "success": "SUCCEEDED", "failed": "FAILED"}
"""Status of a run as Metaflow's users know it, by Airflow's state."""

FINISHED = ("success", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class DagRun:
    """A run of a DAG.

    :param dag_id: the DAG.
    :param dag_run_id: Airflow's id of the run.
    :param run_id: Metaflow's id of the run; of a run in a list, unless :func:`with_reported_id` was asked, that of the
        first run that has had the Airflow run id.
    :param state: Airflow's state.
    :param start: when it started.
    :param end: when it ended.
    :param conf: parameters that were given.
    """

    dag_id: str
    dag_run_id: str
    run_id: str
    state: str
    start: datetime | None
    end: datetime | None
    conf: ParamValues

    @property
    def status(self) -> str:
        """Return PENDING, RUNNING, SUCCEEDED or FAILED."""
        return STATUS[self.state]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """A run before it is started: its ids are known at once.

    :param dag_run_id: Airflow's id.
    :param run_id: Metaflow's id.
    """

    dag_run_id: str
    run_id: str


def trigger(
    client: AirflowClient,
    dag_id: str,
    dag_run_id: str,
    conf: Mapping[str, Any],
    *,
    logical_date: str | None = None,
    note: str | None = None,
) -> DagRun:
    """Start a run. Its id is chosen by the caller, so that a request that is sent again finds the same run.

    :param client: the Airflow.
    :param dag_id: the DAG.
    :param dag_run_id: a new id.
    :param conf: values by parameter name.
    :param logical_date: ISO form, with a zone.
    :param note: shown beside the run.
    :raises AirflowApiError: if Airflow refuses a parameter or does not know the DAG.
    """
    body: AirflowObject = {"dag_run_id": dag_run_id, "conf": dict(conf), "logical_date": logical_date}
    if note is not None:
        body["note"] = note
    try:
        data = client.request("POST", path_of("dags", dag_id, "dagRuns"), json=body)
    except ConflictError:
        # The answer to an earlier sending was lost, or another run has the logical date.
        found = get_run(client, dag_id, dag_run_id)
        if found is None:
            raise
        return found
    return _run(data)


def get_run(client: AirflowClient, dag_id: str, dag_run_id: str) -> DagRun | None:
    """Return a run by Airflow's id, None if there is none.

    :param client: the Airflow.
    :param dag_id: the DAG.
    :param dag_run_id: Airflow's id.
    """
    try:
        return _run(client.request("GET", path_of("dags", dag_id, "dagRuns", dag_run_id)))
    except NotFoundError:
        return None


def with_reported_id(client: AirflowClient, run: DagRun, start: str) -> DagRun:
    """Return a run with the Metaflow run id that its start step has reported.

    It differs where a DAG run was deleted and made again under its old id.

    :param client: the Airflow.
    :param run: the run.
    :param start: Airflow task id of the start step.
    """
    first = airflow_run_id(run.dag_id, run.dag_run_id)
    path = path_of("dags", run.dag_id, "dagRuns", run.dag_run_id, "taskInstances", start, "xcomEntries", RUN_KEY)
    try:
        reported = client.request("GET", path)["value"]
    except NotFoundError:
        # It has not begun, its XComs were deleted, or a release before 0.2 has run it.
        reported = None
    return replace(run, run_id=reported_run_id(reported, first))


def list_runs(client: AirflowClient, dag_id: str, states: tuple[str, ...] = ()) -> Iterator[DagRun]:
    """Yield the runs of a DAG, the newest first.

    :param client: the Airflow.
    :param dag_id: the DAG.
    :param states: Airflow states to choose; default: all.
    """
    offset = 0
    while True:
        params = {"limit": PAGE_SIZE, "offset": offset, "order_by": "-run_after", "state": list(states)}
        page = client.request("GET", path_of("dags", dag_id, "dagRuns"), params=params)
        yield from (_run(one) for one in page["dag_runs"])
        offset += len(page["dag_runs"])
        if not page["dag_runs"] or offset >= page["total_entries"]:
            return


def find_run(client: AirflowClient, dag_id: str, flow: str, name: str, start: str = "start") -> DagRun:
    """Return the run that a user names.

    :param client: the Airflow.
    :param dag_id: the DAG.
    :param flow: the flow.
    :param name: Metaflow's run id, ``Flow/run``, or Airflow's run id.
    :param start: Airflow task id of the start step.
    :raises InvalidOptionError: if there is none, it is one of another flow, or its DAG run was made again.
    """
    stem, _, run_id = name.rpartition("/")
    if stem and stem != flow:
        raise InvalidOptionError(f"the run {name} belongs to the flow {stem}.", flow=flow)
    if run_id.startswith("airflow-"):
        for run in list_runs(client, dag_id):
            if run.run_id == first_run_id(run_id):
                return _same_run(with_reported_id(client, run, start), run_id, flow)
    else:
        found = get_run(client, dag_id, run_id)
        if found is not None:
            return with_reported_id(client, found, start)
    raise InvalidOptionError(
        f"the DAG {dag_id} has no run {run_id}.",
        flow=flow,
        hint="`airflow list-runs` shows its runs; the run may belong to another flow or project branch.",
    )


def _same_run(run: DagRun, run_id: str, flow: str) -> DagRun:
    if run.run_id == run_id:
        return run
    raise InvalidOptionError(
        f"the run {run_id} is no more in Airflow: its DAG run {run.dag_run_id} was deleted, or cleared with other "
        f"parameters, and made again as {run.run_id}.",
        flow=flow,
        hint=f"Name {run.run_id}; what the older run has stored is still in Metaflow.",
    )


def wait_for_run(
    client: AirflowClient,
    dag_id: str,
    dag_run_id: str,
    *,
    timeout: float = 600,
    pause: float = 0.3,
    watch: Callable[[list[TaskInstance]], None] | None = None,
) -> str:
    """Wait until a run has ended and return Airflow's state of it.

    :param client: the Airflow.
    :param dag_id: the DAG.
    :param dag_run_id: Airflow's id of the run.
    :param timeout: seconds.
    :param pause: seconds between two looks.
    :param watch: called with the task instances at each look.
    :raises AirflowApiError: if it does not end in time.
    """
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        run = _run(client.request("GET", path_of("dags", dag_id, "dagRuns", dag_run_id)))
        if watch is not None:
            watch(task_instances(client, dag_id, dag_run_id))
        if run.state in FINISHED:
            return run.state
        time.sleep(pause)
    raise AirflowApiError(f"The run {dag_run_id} of {dag_id} did not end within {timeout:g} s.")


def end_run(client: AirflowClient, run: DagRun) -> None:
    """End a run as failed; Airflow kills its running tasks.

    :param client: the Airflow.
    :param run: the run.
    """
    client.request("PATCH", path_of("dags", run.dag_id, "dagRuns", run.dag_run_id), json={"state": "failed"})


def clear(client: AirflowClient, run: DagRun, task: str | None = None) -> int:
    """Let tasks of a run run again; return how many there are.

    :param client: the Airflow.
    :param run: the run.
    :param task: a task, which runs again with all after it; None: those that failed, and those that waited for them.
    """
    body: AirflowObject = {"dry_run": False, "dag_run_id": run.dag_run_id, "reset_dag_runs": True}
    body |= {"only_failed": True} if task is None else _with_all_after(task)
    answer = client.request("POST", path_of("dags", run.dag_id, "clearTaskInstances"), json=body)
    return int(answer["total_entries"])


def _with_all_after(task: str) -> AirflowObject:
    return {"only_failed": False, "task_ids": [task], "include_downstream": True}


def consumed_events(client: AirflowClient, run: DagRun) -> list[ReceivedEvent]:
    """Return the events of ours that a run was started by.

    :param client: the Airflow.
    :param run: the run.
    """
    page = client.request("GET", path_of("dags", run.dag_id, "dagRuns", run.dag_run_id, "upstreamAssetEvents"))
    named = [(event_of(one["name"]), one) for one in page["asset_events"]]
    return [
        ReceivedEvent(
            name=name,
            payload=read_payload(one["extra"] or {}),
            timestamp=datetime.fromisoformat(one["timestamp"].replace("Z", "+00:00")).timestamp(),
        )
        for name, one in named
        if name is not None
    ]


def _run(data: AirflowObject) -> DagRun:
    return DagRun(
        dag_id=data["dag_id"],
        dag_run_id=data["dag_run_id"],
        run_id=airflow_run_id(data["dag_id"], data["dag_run_id"]),
        state=data["state"],
        start=_time(data["start_date"]),
        end=_time(data["end_date"]),
        conf=data["conf"] or {},
    )


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None
