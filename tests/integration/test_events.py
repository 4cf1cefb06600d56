"""Flows that start on events, tell of their own end, and run hooks and notifiers after it, on a real Airflow."""

from __future__ import annotations

import json
import time
from pathlib import Path

import metaflow
import pytest
from tests.support.airflow import FlowRun, SharedAirflow
from tests.support.listener import listener

from airflow_provider_metaflow.events import publish_event
from airflow_provider_metaflow.rest import dags, runs
from airflow_provider_metaflow.rest.deployment import open_deployment
from metaflow_orchestration.exceptions import InvalidOptionError

pytestmark = pytest.mark.scheduler

UNPAUSED = "--no-is-paused-upon-creation"


@pytest.fixture(scope="module")
def deployed(airflow: SharedAirflow, flows: Path) -> SharedAirflow:
    """The flows that wait for events, deployed and parsed."""
    for name in ("upstream", "on_finish", "on_event", "on_both"):
        airflow.create(flows / "events" / f"{name}.py", UNPAUSED)
    for dag in ("UpstreamFlow", "OnFinishFlow", "OnEventFlow", "OnBothFlow"):
        dags.wait_for_dag(airflow.server.client, dag)
    return airflow


def nth_run(airflow: SharedAirflow, dag_id: str, number: int) -> FlowRun:
    """Wait for the run of a DAG that is started as the `number`-th, and return it."""

    def found() -> list[runs.DagRun]:
        return list(reversed(list(runs.list_runs(airflow.server.client, dag_id))))

    airflow.wait_until(lambda: len(found()) >= number, 90)
    return FlowRun(airflow, dag_id, dag_id, found()[number - 1].dag_run_id)


def test_a_flow_starts_when_another_has_finished_and_sees_its_run(deployed: SharedAirflow) -> None:
    upstream = deployed.start("UpstreamFlow", "UpstreamFlow", {"value": 7})
    upstream.wait()
    run = nth_run(deployed, "OnFinishFlow", 1)
    run.wait()
    start = run.artifacts()["start"][((), ())]
    assert start["upstream"] == f"UpstreamFlow/{upstream.run_id}"
    assert start["result"] == 70
    assert start["seen"] == [
        ("metaflow.UpstreamFlow.end", "run", f"UpstreamFlow/{upstream.run_id}/finish/t-finish"),
    ]
    # In every step, not only in the first.
    assert run.artifacts()["end"][((), ())]["still"] == f"UpstreamFlow/{upstream.run_id}"
    assert upstream.artifacts()["start"][((), ())]["trigger"] is None
    events = deployed.server.client.request("GET", "/assets/events", params={"source_dag_id": "UpstreamFlow"})
    names = [one["name"].removeprefix("x-metaflow-event://metaflow.UpstreamFlow.") for one in events["asset_events"]]
    assert sorted(names) == ["end"]


def test_a_bad_payload_fails_its_own_run_and_not_the_next(deployed: SharedAirflow) -> None:
    client = deployed.server.client
    publish_event("tests.OnEventFlow", {"size": 0.5, "text": "x"}, client=client)
    missing = nth_run(deployed, "OnEventFlow", 1)
    missing.wait(expect="failed")
    assert "has no field 'table', which parameter 'table' takes its value from" in missing.log("start")
    publish_event("tests.OnEventFlow", {"size": "big", "text": "x", "table": {}}, client=client)
    wrong = nth_run(deployed, "OnEventFlow", 2)
    wrong.wait(expect="failed")
    assert "parameter 'alpha' is of type float, but the value is 'big'" in wrong.log("start")
    text = "it's {{ ds }} $HOME `id`"
    sent = publish_event("tests.OnEventFlow", {"size": 0.5, "text": text, "table": {"a": [1]}}, client=client)
    good = nth_run(deployed, "OnEventFlow", 3)
    good.wait()
    start = good.artifacts()["start"][((), ())]
    assert start["seen"] == (0.5, text, {"a": [1]}, 5)
    assert start["event"][:2] == ("tests.OnEventFlow", sent)
    # A run that takes over its tasks has its parameters, though no event of its own.
    deployment = open_deployment(client, "OnEventFlow")
    conf = deployment.resume_conf(good.run_id, None, {})
    again = deployed.start("OnEventFlow", "OnEventFlow", conf)
    again.wait()
    assert again.artifacts()["start"][((), ())]["seen"] == (0.5, text, {"a": [1]}, 5)
    metaflow.metadata(f"local@{deployed.sysroot}")
    metaflow.namespace(None)
    links = metaflow.Run(f"OnEventFlow/{good.run_id}")["start"].task.metadata_dict
    assert json.loads(links["execution-triggers"])[0]["id"] == sent


def test_a_flow_of_two_events_waits_for_both(deployed: SharedAirflow) -> None:
    client = deployed.server.client
    publish_event("tests.one", {"first": "1"}, client=client)
    time.sleep(4)
    assert not list(runs.list_runs(client, "OnBothFlow"))
    publish_event("tests.two", {"b": "2"}, client=client)
    run = nth_run(deployed, "OnBothFlow", 1)
    run.wait()
    start = run.artifacts()["start"][((), ())]
    assert start["seen"] == ("1", "2")
    assert start["names"] == ["tests.one", "tests.two"]


def test_an_event_that_nobody_waits_for_is_told(deployed: SharedAirflow) -> None:
    client = deployed.server.client
    with pytest.raises(InvalidOptionError, match=r"knows the event 'tests\.nobody'"):
        publish_event("tests.nobody", {}, client=client)
    assert publish_event("tests.nobody", {}, client=client, missing_ok=True) is None


OUTLETS = """
from airflow.sdk import DAG, task
from airflow_provider_metaflow.events import event_asset

ready = event_asset("tests.OnEventFlow")
with DAG("outlet_publisher", schedule=None):
    @task(outlets=[ready])
    def publish(*, outlet_events):
        outlet_events[ready].extra = {"size": 2, "text": "from a task", "table": []}
    publish()
"""


def test_an_airflow_task_publishes_an_event_by_its_outlet(deployed: SharedAirflow) -> None:
    deployed.write_dag("outlet_publisher", OUTLETS)
    before = len(list(runs.list_runs(deployed.server.client, "OnEventFlow")))
    deployed.start("outlet_publisher", "outlet_publisher").wait()
    run = nth_run(deployed, "OnEventFlow", before + 1)
    run.wait()
    assert run.artifacts()["start"][((), ())]["seen"] == (2.0, "from a task", [], 5)


def test_exit_hooks_run_after_the_run_and_change_nothing_about_it(
    airflow: SharedAirflow, flows: Path, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    source = (flows / "events" / "hooked.py").read_text().replace('os.environ["HOOK_NOTES"]', repr(str(notes)))
    flow = tmp_path / "hooked.py"
    flow.write_text(source)
    airflow.create(flow, UNPAUSED)
    good = airflow.start("HookedFlow", "HookedFlow")
    good.wait()
    assert notes.read_text().splitlines()[0] == "slow is done"
    assert sorted(notes.read_text().splitlines()[1:]) == ["broken", f"succeeded HookedFlow/{good.run_id} True True"]
    states = good.states()
    assert states["on-success-succeeded"] == {"success"}
    # Its own failure is visible, and harmless.
    assert states["on-success-broken"] == {"failed"}
    assert "the hook itself fails" in good.log("on-success-broken")
    assert states["on-error-failed"] == {"skipped"}
    notes.unlink()
    bad = airflow.start("HookedFlow", "HookedFlow", {"fails": True})
    bad.wait(expect="failed")
    # Not before the other branch is at its end.
    assert notes.read_text().splitlines() == [
        "slow is done",
        f"failed HookedFlow/{bad.run_id} False ['quick', 'slow', 'start']",
    ]
    assert bad.states()["on-success-succeeded"] == {"skipped"}


@pytest.mark.extended
def test_slack_and_incident_io_are_told_and_their_secrets_stay_in_connections(
    airflow: SharedAirflow, flows: Path
) -> None:
    client = airflow.server.client
    with listener() as (url, got):
        client.request(
            "POST", "/connections",
            json={"connection_id": "incident", "conn_type": "http", "host": url, "password": "incident-secret"},
        )  # fmt: skip
        options = [
            "--notify-on-error", "--notify-on-success",
            "--notify-slack-webhook-url", f"{url}/services/slack-secret",
            "--notify-incident-io-conn-id", "incident",
            "--incident-io-alert-source-config-id", "SOURCE", "--incident-io-metadata", "team=ml",
        ]  # fmt: skip
        from tests.support.environment import environment_variable

        with environment_variable("METAFLOW_AIRFLOW_URL", airflow.server.url):
            dag_file = airflow.create(flows / "linear.py", UNPAUSED, *options, name="notifying")
        written = dag_file.read_text() + dag_file.with_suffix(".metaflow.json").read_text()
        assert "slack-secret" not in written
        run = airflow.start("notifying", "LinearFlow")
        run.wait()
        airflow.wait_until(lambda: len(got) >= 2, 60)
    told = {path: (headers, body) for path, headers, body in got}
    assert f"Metaflow run LinearFlow/{run.run_id} succeeded!" in told["/services/slack-secret"][1]["text"]
    headers, body = told["/v2/alert_events/http/SOURCE"]
    assert headers["authorization"] == "Bearer incident-secret"
    assert body["metadata"] == {
        "team": "ml", "run_status": "succeeded", "flow_name": "LinearFlow", "run_id": run.run_id,
    }  # fmt: skip


UPSTREAM_TASK = """
from airflow.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.bash import BashOperator

with DAG("sensed_upstream", schedule=None, is_paused_upon_creation=False):
    BashOperator(task_id="ready", bash_command="true")
"""


def test_the_stock_sensor_decorators_hold_the_start_until_their_task_and_key_are_there(
    airflow: SharedAirflow, flows: Path
) -> None:
    import boto3
    from moto.server import ThreadedMotoServer

    client = airflow.server.client
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
        s3 = boto3.client("s3", endpoint_url=url, **keys)
        s3.create_bucket(Bucket="sensed")
        client.request(
            "POST", "/connections",
            json={"connection_id": "sensed_s3", "conn_type": "aws", "login": "a", "password": "b",
                  "extra": json.dumps({"endpoint_url": url, "region_name": "us-east-1"})},
        )  # fmt: skip
        airflow.write_dag("sensed_upstream", UPSTREAM_TASK)
        airflow.create(flows / "events" / "sensed.py", UNPAUSED)
        dags.wait_for_dag(client, "SensedFlow")
        dags.wait_for_dag(client, "sensed_upstream")
        at = "2026-03-01T05:00:00+00:00"
        run = FlowRun(
            airflow, "SensedFlow", "SensedFlow",
            runs.trigger(client, "SensedFlow", "sensed", {}, logical_date=at).dag_run_id,
        )  # fmt: skip
        time.sleep(5)
        assert run.states()["start"] == {None}
        s3.put_object(Bucket="sensed", Key="keys/a.csv", Body=b"1")
        runs.trigger(client, "sensed_upstream", "up", {}, logical_date="2026-03-01T04:00:00+00:00")
        run.wait(timeout=180)
        assert run.states()["wait_task"] == {"success"}
        assert run.states()["s3-key-sensor-0"] == {"success"}
    finally:
        server.stop()
