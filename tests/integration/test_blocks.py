"""Hook, operators, sensors, triggers and links of the provider, in DAGs on a real Airflow."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.support.airflow import FlowRun, SharedAirflow
from tests.support.environment import environment_variable

from airflow_provider_metaflow.rest import dags, runs

pytestmark = pytest.mark.scheduler

UNPAUSED = "--no-is-paused-upon-creation"

CALLER = """
from airflow.sdk import DAG, task
from airflow_provider_metaflow import (
    MetaflowArtifactOperator, MetaflowArtifactSensor, MetaflowRunOperator, MetaflowRunSensor, artifact)

with DAG("caller", schedule=None, render_template_as_native_obj=True):
    run = MetaflowRunOperator(
        task_id="run", deployment="blocks.upstream", flow="UpstreamFlow", poll_interval=0.5,
        parameters={"value": "{{ dag_run.conf.get('value', 2) }}"})
    deferred = MetaflowRunOperator(
        task_id="deferred", deployment="blocks.upstream", flow="UpstreamFlow", deferrable=True, poll_interval=1)
    remote = MetaflowRunOperator(
        task_id="remote", deployment="blocks.upstream", impl="airflow", poll_interval=1, parameters={"value": 4})
    finished = MetaflowRunSensor(task_id="finished", run=run.output, poke_interval=1)
    asked = MetaflowRunSensor(
        task_id="asked", run=run.output, deployment="blocks.upstream", mode="reschedule", poke_interval=1)
    there = MetaflowArtifactSensor(
        task_id="there", pathspec=deferred.output, artifact="result", deferrable=True, poke_interval=1,
        condition=lambda value: value > 0)
    value = artifact(run.output, "result", task_id="value")

    @task
    def report(value, pathspec):
        return {"value": value, "pathspec": pathspec}

    report(value, run.output)
"""


@pytest.fixture(scope="module")
def blocks(airflow: SharedAirflow, flows: Path) -> SharedAirflow:
    """The flows that the DAGs of this module start."""
    # Without events: others wait for those of this flow.
    airflow.create(flows / "events" / "upstream.py", UNPAUSED, "--no-auto-emit-events", name="blocks.upstream")
    airflow.create(flows / "fragile.py", UNPAUSED, name="blocks.fragile")
    dags.wait_for_dag(airflow.server.client, "blocks.upstream")
    dags.wait_for_dag(airflow.server.client, "blocks.fragile")
    return airflow


def xcom(run: FlowRun, task_id: str, key: str = "return_value") -> object:
    path = f"/dags/{run.dag_id}/dagRuns/{quote(run.dag_run_id)}/taskInstances/{task_id}/xcomEntries/{key}"
    return run.airflow.server.client.request("GET", path, params={"deserialize": False})["value"]


def test_a_dag_starts_flows_waits_for_them_and_reads_what_they_made(blocks: SharedAirflow) -> None:
    blocks.write_dag("caller", CALLER)
    run = blocks.start("caller", "caller")
    run.wait(timeout=400)
    started = list(runs.list_runs(blocks.server.client, "blocks.upstream"))
    assert len(started) == 3
    pathspecs = {f"UpstreamFlow/{one.run_id}" for one in started}
    assert {xcom(run, task) for task in ("run", "deferred", "remote")} == pathspecs
    assert xcom(run, "run", "metaflow_pathspec") == xcom(run, "run")
    told = xcom(run, "report")
    assert str(xcom(run, "run")) in str(told)
    confs = sorted(str(one.conf.get("value")) for one in started)
    assert confs == ["2", "4", "None"]
    assert "'value': 20" in str(told) or '"value": 20' in str(told)
    events = blocks.server.client.request("GET", "/assets/events", params={"source_dag_id": "blocks.upstream"})
    assert events["total_entries"] == 0


FAILING = """
from airflow.sdk import DAG
from airflow_provider_metaflow import MetaflowRunOperator, MetaflowRunSensor, MetaflowArtifactOperator

with DAG("failing_caller", schedule=None):
    waits = MetaflowRunOperator(
        task_id="waits", deployment="blocks.fragile", flow="FragileFlow", deferrable={deferrable},
        parameters={{"folder": {folder!r}}}, poll_interval=0.5)
    nowhere = MetaflowRunOperator(task_id="nowhere", deployment="blocks.nowhere", poll_interval=0.5)
    absent = MetaflowArtifactOperator(task_id="absent", pathspec="LinearFlow/none/end", artifact="x")
"""


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_killed_task_ends_the_run_that_it_waits_for(blocks: SharedAirflow, tmp_path: Path, deferrable: bool) -> None:
    (tmp_path / "hang").touch()
    with blocks.parsed_again("failing_caller"):
        blocks.write_dag("failing_caller", FAILING.format(folder=str(tmp_path), deferrable=deferrable))
    client = blocks.server.client
    run = blocks.start("failing_caller", "failing_caller")

    def going_on() -> list[runs.DagRun]:
        return list(runs.list_runs(client, "blocks.fragile", ("running",)))

    blocks.wait_until(lambda: run.states().get("nowhere") == {"failed"}, 120)
    assert "Airflow could not start a run of blocks.nowhere" in run.log("nowhere")
    blocks.wait_until(lambda: run.states()["absent"] == {"failed"}, 60)
    assert "Wait for it with MetaflowArtifactSensor" in run.log("absent")
    blocks.wait_until(lambda: len(going_on()) == 1, 60)
    wanted = "deferred" if deferrable else "running"
    blocks.wait_until(lambda: run.states()["waits"] == {wanted}, 60)
    if deferrable:
        # It holds no slot of a worker.
        assert client.request("GET", "/pools/default_pool")["deferred_slots"] == 1
    client.request(
        "PATCH",
        f"/dags/failing_caller/dagRuns/{quote(run.dag_run_id)}/taskInstances/waits",
        json={"new_state": "failed"},
    )
    blocks.wait_until(lambda: not going_on(), 90)
    (tmp_path / "hang").unlink()


def test_the_connection_is_tested_and_its_secrets_are_not_told(
    airflow: SharedAirflow, caplog: pytest.LogCaptureFixture
) -> None:
    from airflow_provider_metaflow.hooks.metaflow import MetaflowHook

    extra = {"headers": '{"x-api-key": "s3cret"}', "datastore_root": str(airflow.sysroot / ".metaflow")}
    connection = json.dumps({"conn_type": "metaflow", "extra": extra})
    with environment_variable("AIRFLOW_CONN_METAFLOW_LOCAL", connection):
        hook = MetaflowHook("metaflow_local")
        assert hook.get_conn() == {
            "METAFLOW_SERVICE_HEADERS": '{"x-api-key": "s3cret"}',
            "METAFLOW_DEFAULT_DATASTORE": "local",
            "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(airflow.sysroot),
        }
        good, message = hook.test_connection()
        assert good, message
    unreachable = '{"conn_type": "metaflow", "host": "127.0.0.1", "port": 9, "password": "s3cret"}'
    with environment_variable("AIRFLOW_CONN_METAFLOW_FAR", unreachable):
        good, message = MetaflowHook("metaflow_far").test_connection()
        assert not good
        assert "host='127.0.0.1', port=9" in message
        assert "s3cret" not in message
    assert "s3cret" not in caplog.text
