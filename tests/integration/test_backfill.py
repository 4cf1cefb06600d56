"""Backfills, resets and new runs of a scheduled flow: each run computes with its own day."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from tests.support.airflow import FlowRun, SharedAirflow
from tests.support.results import artifacts

from airflow_provider_metaflow.rest import dags

pytestmark = pytest.mark.scheduler

DAILY = """
import pendulum
from airflow_provider_metaflow import MetaflowDag

dag = MetaflowDag(
    {manifest!r},
    "daily",
    schedule="@daily",
    start_date=pendulum.datetime(2026, 1, 1),
    catchup=False,
    parameters={{"folder": {folder!r}, "text": "{{{{ ds }}}} to {{{{ data_interval_end | ds }}}}"}},
)
"""

RESETTING = """
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG

with DAG("resetting", schedule=None):
    TriggerDagRunOperator(
        task_id="start",
        trigger_dag_id="AgainFlow",
        trigger_run_id="fixed",
        conf={{"folder": {folder!r}}},
        reset_dag_run=True,
        wait_for_completion=True,
        poke_interval=2,
    )
"""


@pytest.fixture(scope="module")
def manifest(airflow: SharedAirflow, flows: Path) -> Path:
    return airflow.create(flows / "again.py", name="AgainFlow").with_suffix(".metaflow.json")


def backfill(airflow: SharedAirflow, **body: object) -> list[FlowRun]:
    """Run three days again or for the first time, and return the runs when they have ended."""
    client = airflow.server.client
    days = {"from_date": "2026-01-05T00:00:00Z", "to_date": "2026-01-07T00:00:00Z"}
    made = client.request("POST", "/backfills", json={"dag_id": "daily", **days, **body})
    path = f"/backfills/{made['id']}"
    airflow.wait_until(lambda: client.request("GET", path)["completed_at"], timeout=240)
    found = client.request("GET", "/dags/daily/dagRuns?run_type=backfill&order_by=logical_date")["dag_runs"]
    runs = [FlowRun(airflow, "AgainFlow", "daily", one["dag_run_id"]) for one in found]
    for run in runs:
        run.wait()
    return runs


def result(run: FlowRun) -> str:
    """Return what the newest Metaflow run of a DAG run has computed."""
    path = f"/dags/{run.dag_id}/dagRuns/{quote(run.dag_run_id)}/taskInstances/start/xcomEntries/metaflow_run"
    run_id = run.airflow.server.client.request("GET", path)["value"]
    return str(artifacts(run.airflow.sysroot, run.flow, run_id)["end"][((), ())]["result"])


@pytest.mark.extended
def test_each_day_of_a_backfill_has_its_own_dates_and_one_that_is_run_again_what_it_is_given_then(
    airflow: SharedAirflow, manifest: Path, tmp_path: Path
) -> None:
    airflow.write_dag("daily", DAILY.format(manifest=str(manifest), folder=str(tmp_path)))
    dags.wait_for_dag(airflow.server.client, "daily")
    dags.set_paused(airflow.server.client, "daily", paused=False)
    runs = backfill(airflow)
    # A cron is a moment in Airflow 3, without an interval (`create_cron_data_intervals`).
    assert [result(run) for run in runs] == [f"2026-01-0{day} to 2026-01-0{day}" for day in (5, 6, 7)]
    again = backfill(airflow, reprocess_behavior="completed", dag_run_conf={"text": "again"})
    assert [run.dag_run_id for run in again] == [run.dag_run_id for run in runs]
    assert [result(run) for run in again] == ["again"] * 3


def test_runs_without_a_logical_date_have_the_dates_of_their_run_after_or_what_they_are_started_with(
    airflow: SharedAirflow, manifest: Path, tmp_path: Path
) -> None:
    source = DAILY.replace('"daily"', '"undated"').replace('schedule="@daily"', "schedule=None")
    airflow.write_dag("undated", source.format(manifest=str(manifest), folder=str(tmp_path)))
    given = airflow.start("undated", "AgainFlow", {"text": "mine"})
    run = airflow.start("undated", "AgainFlow")
    path = f"/dags/undated/dagRuns/{quote(run.dag_run_id)}"
    described = airflow.server.client.request("GET", path)
    assert described["logical_date"] is None
    for one in (given, run):
        one.wait()
    day = described["run_after"][:10]
    assert (result(given), result(run)) == ("mine", f"{day} to {day}")


def test_a_run_that_another_dag_resets_runs_its_code_again(
    airflow: SharedAirflow, manifest: Path, tmp_path: Path
) -> None:
    airflow.write_dag("resetting", RESETTING.format(folder=str(tmp_path)))
    dags.wait_for_dag(airflow.server.client, "AgainFlow")
    dags.set_paused(airflow.server.client, "AgainFlow", paused=False)
    for number in range(1, 3):
        airflow.start("resetting", "AgainFlow").wait()
        assert (tmp_path / "notes").read_text().split() == [str(attempt) for attempt in range(number)]
    assert result(FlowRun(airflow, "AgainFlow", "AgainFlow", "fixed")) == "a"
