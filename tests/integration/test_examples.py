"""The examples of the documentation run, on a real Airflow and with a real message queue."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.support.airflow import FlowRun, SharedAirflow

from airflow_provider_metaflow.rest import dags, runs

pytestmark = pytest.mark.scheduler

EXAMPLES = Path(__file__).parents[2] / "dags_examples"
FILES = ("demo_dag.py", "events_dag.py", "queue_dag.py", "run_dag.py", "training_dag.py")


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A Redis server of its own; yields its port."""
    if shutil.which("redis-server") is None:
        pytest.fail("redis-server is missing; `make test` installs it.")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("redis")
    process = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder],
        stdout=subprocess.DEVNULL,
    )
    yield port
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def examples(airflow: SharedAirflow, redis: int) -> SharedAirflow:
    """The examples in the DAGs folder of the shared Airflow."""
    folder = airflow.server.dags / "examples"
    shutil.copytree(EXAMPLES / "flows", folder / "flows", ignore=shutil.ignore_patterns("__pycache__", ".metaflow"))
    connection = {"connection_id": "redis_default", "conn_type": "redis", "host": "127.0.0.1", "port": redis}
    airflow.server.client.request("POST", "/connections", json=connection)
    for name in FILES:
        shutil.copy(EXAMPLES / name, folder / name)
    for dag_id in ("DemoFlow", "OnOrderFlow", "AfterDemoFlow", "publisher", "on_queue", "run_demo", "TrainingFlow"):
        dags.wait_for_dag(airflow.server.client, dag_id)
        dags.set_paused(airflow.server.client, dag_id, paused=False)
    # Airflow starts the watcher of a DAG that was paused when it next reads the file.
    (folder / "queue_dag.py").touch()
    yield airflow
    # Flows of other tests wait for events of the same names.
    for name in FILES:
        (folder / name).unlink()


def first_run(airflow: SharedAirflow, dag_id: str, flow: str) -> FlowRun:
    airflow.wait_until(lambda: list(runs.list_runs(airflow.server.client, dag_id)), 90)
    found = list(runs.list_runs(airflow.server.client, dag_id))
    return FlowRun(airflow, flow, dag_id, found[-1].dag_run_id)


@pytest.mark.extended
def test_a_dag_runs_the_demo_and_reads_its_result_and_another_flow_follows(examples: SharedAirflow) -> None:
    run = examples.start("run_demo", "run_demo")
    run.wait(timeout=300)
    path = f"/dags/run_demo/dagRuns/{quote(run.dag_run_id)}/taskInstances/report/xcomEntries/return_value"
    assert "wins" in str(examples.server.client.request("GET", path)["value"])
    demo = first_run(examples, "DemoFlow", "DemoFlow")
    after = first_run(examples, "AfterDemoFlow", "AfterDemoFlow")
    after.wait()
    assert after.artifacts()["start"][((), ())]["upstream"] == f"DemoFlow/{demo.run_id}"
    assert f"AfterDemoFlow/{after.run_id} has ended" in after.log("on-success-report")


def test_the_quickstart_trains_a_model(examples: SharedAirflow) -> None:
    run = examples.start("TrainingFlow", "TrainingFlow", {"updates": 5})
    run.wait()
    assert run.artifacts()["end"][((), ())]["model"]["rate"] == 0.02


def test_an_event_of_a_task_and_one_of_a_script_each_start_the_flow(examples: SharedAirflow) -> None:
    examples.start("publisher", "publisher").wait()
    run = first_run(examples, "OnOrderFlow", "OnOrderFlow")
    run.wait()
    assert "order 7 is done" in run.log("end")
    script = subprocess.run(
        [sys.executable, EXAMPLES / "publish.py"],
        env={**os.environ, "METAFLOW_AIRFLOW_URL": examples.server.url},
        capture_output=True,
        text=True,
    )
    assert script.returncode == 0, script.stderr
    examples.wait_until(lambda: len(list(runs.list_runs(examples.server.client, "OnOrderFlow"))) == 2, 90)
    newest = next(iter(runs.list_runs(examples.server.client, "OnOrderFlow")))
    second = FlowRun(examples, "OnOrderFlow", "OnOrderFlow", newest.dag_run_id)
    second.wait()
    assert "order 8 is done" in second.log("end")


def test_a_message_of_a_queue_starts_the_flow_with_its_value(examples: SharedAirflow, redis: int) -> None:
    import redis as client

    channel = client.Redis(port=redis)
    end = time.monotonic() + 120
    # Redis keeps no message for a subscriber that is still to come.
    logs: list[str] = []
    while not any("order 9 is done" in text for text in logs):
        assert time.monotonic() < end, f"no message has started a run; others have: {logs}"
        channel.publish("orders", '{"id": 9}')
        time.sleep(3)
        # The DAG waits for the event itself, too, which other tests publish.
        done = [run for run in runs.list_runs(examples.server.client, "on_queue") if run.state == "success"]
        logs = [FlowRun(examples, "OnOrderFlow", "on_queue", run.dag_run_id).log("end") for run in done]


def test_a_script_deploys_and_runs_a_flow(airflow: SharedAirflow, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / "flows", tmp_path / "flows", ignore=shutil.ignore_patterns("__pycache__", ".metaflow"))
    script = subprocess.run(
        [sys.executable, EXAMPLES / "deploy.py"],
        cwd=tmp_path,
        env={
            **airflow.environment(),
            "METAFLOW_AIRFLOW_URL": airflow.server.url,
            "METAFLOW_AIRFLOW_DAGS_FOLDER": str(airflow.server.dags),
        },
        capture_output=True,
        text=True,
    )
    assert script.returncode == 0, script.stdout + script.stderr
    assert "SUCCEEDED" in script.stdout
