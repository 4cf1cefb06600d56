"""Runs of deployed flows: start, find, watch, end, and run again."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.airflow_api import AirflowApi

from airflow_provider_metaflow.rest import runs, task_instances, task_logs
from airflow_provider_metaflow.rest.client import AirflowApiError, AirflowClient, ConflictError, NotFoundError
from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.identity import airflow_run_id


@pytest.fixture(autouse=True)
def _dag(api: AirflowApi) -> None:
    api.add_dag("d")


def test_a_run_is_started_with_its_parameters(api: AirflowApi, client: AirflowClient) -> None:
    run = runs.trigger(client, "d", "metaflow__1", {"alpha": 1}, logical_date="2026-01-01T00:00:00+00:00", note="why")
    assert (run.dag_run_id, run.run_id, run.state, run.status) == (
        "metaflow__1",
        airflow_run_id("d", "metaflow__1"),
        "queued",
        "PENDING",
    )
    assert run.start is None
    (held,) = api.runs["d"]
    assert (held["conf"], held["note"], held["logical_date"]) == ({"alpha": 1}, "why", "2026-01-01T00:00:00+00:00")


def test_a_start_whose_answer_was_lost_finds_the_run_that_it_started(api: AirflowApi, client: AirflowClient) -> None:
    first = runs.trigger(client, "d", "metaflow__1", {})
    assert runs.trigger(client, "d", "metaflow__1", {}).run_id == first.run_id
    assert len(api.runs["d"]) == 1


def test_another_run_with_the_same_logical_date_is_a_conflict(api: AirflowApi, client: AirflowClient) -> None:
    api.refuse["POST", "/dagRuns"] = [409]
    with pytest.raises(ConflictError):
        runs.trigger(client, "d", "metaflow__1", {}, logical_date="2026-01-01T00:00:00+00:00")


def test_a_dag_that_is_not_there_cannot_be_started(client: AirflowClient) -> None:
    with pytest.raises(NotFoundError):
        runs.trigger(client, "gone", "metaflow__1", {})


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_all_pages_of_runs_are_read_the_newest_first(api: AirflowApi, client: AirflowClient, count: int) -> None:
    api.page = 2
    for number in range(count):
        api.add_run("d", f"r{number}", "success" if number % 2 else "failed")
    assert [run.dag_run_id for run in runs.list_runs(client, "d")] == [f"r{n}" for n in reversed(range(count))]
    odd = [f"r{n}" for n in reversed(range(count)) if n % 2]
    assert [run.dag_run_id for run in runs.list_runs(client, "d", ("success",))] == odd


def test_a_run_that_was_made_again_is_found_by_its_own_name_and_the_older_one_is_refused(
    api: AirflowApi, client: AirflowClient
) -> None:
    api.add_run("d", "manual__1")
    first = airflow_run_id("d", "manual__1")
    api.xcoms["manual__1", "start", "metaflow_run"] = f"{first}-2"
    for name in ("manual__1", f"{first}-2", f"F/{first}-2"):
        assert runs.find_run(client, "d", "F", name).run_id == f"{first}-2"
    for name in (first, f"{first}-3"):
        with pytest.raises(InvalidOptionError, match=f"the run {name} is no more in Airflow.* made again as {first}-2"):
            runs.find_run(client, "d", "F", name)


@pytest.mark.parametrize("edited", ["airflow-0000000000000000-2", "7", 7, None, {"a": 1}])
def test_an_edited_xcom_makes_a_run_no_other_one(api: AirflowApi, client: AirflowClient, edited: Any) -> None:
    api.add_run("d", "manual__1")
    api.xcoms["manual__1", "start", "metaflow_run"] = edited
    assert runs.find_run(client, "d", "F", "manual__1").run_id == airflow_run_id("d", "manual__1")


def test_a_run_is_found_by_each_of_its_names(api: AirflowApi, client: AirflowClient) -> None:
    api.page = 1
    for name in ("manual__1", "manual__2"):
        api.add_run("d", name)
    own = airflow_run_id("d", "manual__1")
    for name in ("manual__1", own, f"F/{own}", "F/manual__1"):
        assert runs.find_run(client, "d", "F", name).dag_run_id == "manual__1"
    for name in ("manual__9", airflow_run_id("d", "manual__9")):
        with pytest.raises(InvalidOptionError, match=f"the DAG d has no run {name}"):
            runs.find_run(client, "d", "F", name)
    with pytest.raises(InvalidOptionError, match="the run G/x belongs to the flow G"):
        runs.find_run(client, "d", "F", "G/x")


def test_a_run_is_waited_for_until_it_has_ended_and_shown_meanwhile(api: AirflowApi, client: AirflowClient) -> None:
    run = api.add_run("d", "r")
    api.add_task("r", "start", "running")
    seen: list[str | None] = []

    def watch(found: list[task_instances.TaskInstance]) -> None:
        seen.extend(one.state for one in found)
        run["state"] = "failed"

    assert runs.wait_for_run(client, "d", "r", pause=0, watch=watch) == "failed"
    assert seen == ["running", "running"]


def test_a_run_that_does_not_end_in_time_is_an_error(api: AirflowApi, client: AirflowClient) -> None:
    api.add_run("d", "r")
    with pytest.raises(AirflowApiError, match=r"The run r of d did not end within 0.2 s"):
        runs.wait_for_run(client, "d", "r", timeout=0.2, pause=0.05)


def test_an_end_is_a_failure_and_a_clear_takes_only_what_failed(api: AirflowApi, client: AirflowClient) -> None:
    api.add_run("d", "r")
    for task, state in (("start", "success"), ("middle", "failed"), ("end", "upstream_failed")):
        api.add_task("r", task, state)
    run = runs.get_run(client, "d", "r")
    assert run is not None
    runs.end_run(client, run)
    assert api.runs["d"][0]["state"] == "failed"
    assert runs.clear(client, run) == 2
    assert [one["state"] for one in api.tasks["r"]] == ["success", None, None]
    _, _, body = api.requests[-1]
    assert body == {"dry_run": False, "dag_run_id": "r", "only_failed": True, "reset_dag_runs": True}
    assert runs.clear(client, run, "middle") == 2
    _, _, body = api.requests[-1]
    assert body == {
        "dry_run": False, "dag_run_id": "r", "reset_dag_runs": True,
        "only_failed": False, "task_ids": ["middle"], "include_downstream": True,
    }  # fmt: skip
    assert runs.get_run(client, "d", "gone") is None


def test_events_of_ours_that_started_a_run_are_read_with_their_payload(api: AirflowApi, client: AirflowClient) -> None:
    api.add_run("d", "r")
    stamp = "2026-01-01T00:00:01Z"
    api.events["r"] = [
        {"name": "x-metaflow-event://data", "extra": {"path": "s3://x"}, "timestamp": stamp},
        {"name": "x-metaflow-event://bare", "extra": None, "timestamp": stamp},
        {"name": "somebody-elses", "extra": {}, "timestamp": stamp},
    ]
    run = runs.get_run(client, "d", "r")
    assert run is not None
    found = runs.consumed_events(client, run)
    assert [(one.name, dict(one.payload), one.timestamp) for one in found] == [
        ("data", {"path": "s3://x"}, 1767225601.0),
        ("bare", {}, 1767225601.0),
    ]


@pytest.mark.parametrize("count", [0, 3, 5])
def test_all_pages_of_task_instances_are_read(api: AirflowApi, client: AirflowClient, count: int) -> None:
    api.page = 2
    for index in range(count):
        api.add_task("r", "body", "success", index, tries=index + 1)
    found = task_instances.task_instances(client, "d", "r")
    assert [(one.map_index, one.try_number) for one in found] == [(index, index + 1) for index in range(count)]


def test_states_of_few_instances_are_counted_with_one_request(api: AirflowApi, client: AirflowClient) -> None:
    api.add_run("d", "r")
    for index, state in enumerate(["success", "success", "failed", None]):
        api.add_task("r", "body", state, index)
    api.add_task("r", "a-hook", "success")
    run = runs.get_run(client, "d", "r")
    assert run is not None
    api.requests.clear()
    assert task_instances.count_states(client, run, ("start", "body")) == {
        "start": {},
        "body": {"success": 2, "failed": 1, None: 1},
        "a-hook": {"success": 1},
    }
    assert len(api.requests) == 1


def test_states_of_many_instances_are_counted_with_requests_that_do_not_grow_with_them(
    api: AirflowApi, client: AirflowClient
) -> None:
    api.page = 10
    api.add_run("d", "r")
    states = ["success"] * 30 + ["running"] * 5 + ["failed"] + [None] * 4
    for index, state in enumerate(states):
        api.add_task("r", "body", state, index)
    api.add_task("r", "start", "success")
    run = runs.get_run(client, "d", "r")
    assert run is not None
    api.requests.clear()
    assert task_instances.count_states(client, run, ("start", "body", "end")) == {
        "start": {"success": 1},
        "body": {"success": 30, "running": 5, "failed": 1, None: 4},
        "end": {},
    }
    assert len(api.requests) <= 1 + 3 * 8


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("plain\ntext", "plain\ntext"),
        ([{"event": "began"}, "a line"], "began\na line"),
        (
            [{"event": "Task failed", "error_detail": [{"exc_type": "ValueError", "exc_value": "bad"}]}],
            "Task failed\nValueError: bad",
        ),
        ([{"level": "info"}], "{'level': 'info'}"),
    ],
)
def test_a_log_is_text_in_whichever_form_it_comes(
    api: AirflowApi, client: AirflowClient, content: Any, text: str
) -> None:
    api.logs["body", 3, 2] = content
    assert task_logs.task_log(client, "d", "r", "body", try_number=2, map_index=3) == text
