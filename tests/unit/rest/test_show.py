"""What the verbs print of deployments and runs, where there is no terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.airflow_api import AirflowApi

from airflow_provider_metaflow.rest import show
from airflow_provider_metaflow.rest.client import AirflowClient
from airflow_provider_metaflow.rest.deployment import DeployedDag
from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.identity import airflow_run_id

Capture = pytest.CaptureFixture[str]
RUN = airflow_run_id("flow.one", "r")


@pytest.fixture
def run(api: AirflowApi, deployed: DeployedDag) -> None:
    api.add_run("flow.one", "r", "failed")
    api.add_task("r", "start", "success")
    for index, state in enumerate(["success", "failed", "running", None]):
        api.add_task("r", "body", state, index, tries=0 if state is None else 2)
    api.logs["start", -1, 1] = "log of start"
    api.logs["body", 1, 2] = "[bold]log[/bold] of body 1"
    api.logs["body", 0, 2] = "log of body 0"


@pytest.mark.usefixtures("run")
def test_a_status_tells_each_step_with_its_states(deployed: DeployedDag, capsys: Capture) -> None:
    show.status(deployed, deployed.find("r"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"GroupedFlow/{RUN}: FAILED after 90 s"
    assert lines[1] == deployed.url(deployed.find("r"))
    body = next(line for line in lines if line.strip().startswith("body"))
    assert "2/4" in body
    for told in ("1 failed", "1 running", "1 success", "1 waiting"):
        assert told in body
    assert "0/0" in next(line for line in lines if line.strip().startswith("collect"))


@pytest.mark.usefixtures("run")
def test_a_status_is_watched_until_the_run_has_ended(
    api: AirflowApi, deployed: DeployedDag, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show, "_WATCH_SECONDS", 0)
    api.runs["flow.one"][0].update(state="running", end_date=None)
    run = deployed.find("r")

    def end(_: str, path: str) -> None:
        if path.endswith("/taskInstances"):
            api.runs["flow.one"][0]["state"] = "success"

    api.on_request = end
    assert show.status(deployed, run, watch=True).state == "success"
    assert "SUCCEEDED" in capsys.readouterr().out


@pytest.mark.usefixtures("run")
def test_a_run_that_is_deleted_while_it_is_watched_is_an_error(
    api: AirflowApi, deployed: DeployedDag, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show, "_WATCH_SECONDS", 0)
    api.runs["flow.one"][0].update(state="running", end_date=None)
    run = deployed.find("r")
    api.on_request = lambda _, path: api.runs["flow.one"].clear() if path.endswith("/taskInstances") else None
    with pytest.raises(InvalidOptionError, match=r"the run r of flow\.one was deleted"):
        show.status(deployed, run, watch=True)


@pytest.mark.usefixtures("run")
def test_runs_are_listed_the_newest_first_up_to_a_limit(
    api: AirflowApi, deployed: DeployedDag, capsys: Capture
) -> None:
    api.add_run("flow.one", "s", "success")
    api.add_run("flow.one", "t", "queued", start_date=None)
    show.show_runs(deployed, (), 2)
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row.split()[0] for row in rows] == [airflow_run_id("flow.one", name) for name in ("t", "s")]
    assert "PENDING" in rows[0]
    assert "2026-01-01 00:00:00" in rows[1]
    show.show_runs(deployed, ("running",), 9)
    assert capsys.readouterr().out == "flow.one has no such runs.\n"
    assert [run.dag_run_id for run in show.list_of_runs(deployed, ("failed",), 9)] == ["r"]


@pytest.mark.usefixtures("run")
def test_logs_are_printed_as_they_are_in_the_order_of_the_steps(deployed: DeployedDag, capsys: Capture) -> None:
    show.logs(deployed, deployed.find("r"), None, failed_only=False)
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert lines[:6] == [
        "== start, try 1: success",
        "log of start",
        "== body[0], try 2: success",
        "log of body 0",
        "== body[1], try 2: failed",
        "[bold]log[/bold] of body 1",
    ]
    # One that has not started has no log.
    assert not any("body[3]" in line for line in lines)


@pytest.mark.usefixtures("run")
def test_logs_can_be_those_of_a_step_or_of_failures_alone(deployed: DeployedDag, capsys: Capture) -> None:
    show.logs(deployed, deployed.find("r"), "start", failed_only=False)
    assert "body" not in capsys.readouterr().out
    show.logs(deployed, deployed.find("r"), None, failed_only=True)
    heads = [line for line in capsys.readouterr().out.splitlines() if line.startswith("==")]
    assert heads == ["== body[1], try 2: failed"]
    with pytest.raises(InvalidOptionError, match=r"has no step 'boddy'. Steps are: start, body"):
        show.logs(deployed, deployed.find("r"), "boddy", failed_only=False)


@pytest.mark.usefixtures("run")
def test_logs_are_what_the_steps_have_written_and_errors_unless_every_line_is_wanted(
    api: AirflowApi, deployed: DeployedDag, capsys: Capture
) -> None:
    """10 of 12 lines were those of Airflow."""
    api.logs["start", -1, 1] = [
        {"event": "::group::Log message source details", "sources": ["/x"]},
        {"event": "Filling up the DagBag", "level": "info", "filename": "dagbag.py"},
        {"event": "Metaflow task F/1/start/t, attempt 0", "level": "info", "filename": "execution.py"},
        {"event": "hello [1]", "level": "info", "filename": "step_log.py"},
        {"event": "ValueError: on purpose", "level": "error", "filename": "step_log.py"},
        {"event": "of an exit hook", "level": "info", "filename": "exit_hook.py"},
        {"event": "disk is full", "level": "warning", "filename": "manager.py"},
        {
            "event": "Task failed with exception", "level": "error", "filename": "task_runner.py",
            "error_detail": [{"exc_type": "StepFailedError", "exc_value": "flow F step start"}],
        },
    ]  # fmt: skip
    show.logs(deployed, deployed.find("r"), "start", failed_only=False)
    assert capsys.readouterr().out.splitlines()[1:] == [
        "hello [1]",
        "ValueError: on purpose",
        "of an exit hook",
        "disk is full",
        "Task failed with exception",
        "StepFailedError: flow F step start",
    ]
    show.logs(deployed, deployed.find("r"), "start", failed_only=False, every_line=True)
    assert "Filling up the DagBag" in capsys.readouterr().out
    # A log that does not say where its lines come from.
    api.logs["start", -1, 1] = [{"event": "line one"}, "line two"]
    show.logs(deployed, deployed.find("r"), "start", failed_only=False)
    assert capsys.readouterr().out.splitlines()[1:] == ["line one", "line two"]


def test_the_lines_of_steps_are_known_by_the_files_that_pass_them_on() -> None:
    from airflow_provider_metaflow.execution import step_log
    from airflow_provider_metaflow.operators import exit_hook
    from airflow_provider_metaflow.rest import task_logs

    assert {Path(str(one.__file__)).name for one in (exit_hook, step_log)} == set(task_logs.WRITTEN_BY_STEPS)


def test_deployments_are_listed_by_flow_and_stale_ones_left_out(
    api: AirflowApi, client: AirflowClient, deployed: DeployedDag, capsys: Capture
) -> None:
    doc = api.dags["flow.one"]["doc_md"]
    api.add_dag("flow.paused", doc, is_paused=True)
    api.add_dag("flow.stale", doc, is_stale=True)
    show.deployments(client, "GroupedFlow")
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [(row[0], row[1], row[-1]) for row in rows] == [
        ("flow.one", "GroupedFlow", "active"),
        ("flow.paused", "GroupedFlow", "paused"),
    ]
    show.deployments(client, "Other")
    assert "flow.one" not in capsys.readouterr().out
