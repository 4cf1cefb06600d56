"""A deployed flow: who may do what to it, and the verbs on its runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace
from tests.support.airflow_api import AirflowApi

from airflow_provider_metaflow.plan.record import record_line
from airflow_provider_metaflow.rest.client import AirflowClient
from airflow_provider_metaflow.rest.dags import DagNotReadyError
from airflow_provider_metaflow.rest.deployment import (
    Caller,
    DeployedDag,
    check_idle,
    check_owner,
    open_deployment,
    wait_for_deployment,
)
from metaflow_orchestration.compile.token_proof import make_proof
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.identity import airflow_run_id

RUN = airflow_run_id("flow.one", "r")


def test_a_deployment_is_opened_by_its_name_and_flow(
    api: AirflowApi, client: AirflowClient, deployed: DeployedDag
) -> None:
    assert (deployed.name, deployed.record.flow) == ("flow.one", "GroupedFlow")
    assert deployed.record.steps == ("start", "body", "collect", "end")
    with pytest.raises(DagNotReadyError, match=rf"Airflow at {api.url} has no DAG flow.two. Deploy it"):
        open_deployment(client, "flow.two")
    with pytest.raises(InvalidOptionError, match=r"the DAG flow.one runs the flow GroupedFlow"):
        open_deployment(client, "flow.one", "Other")
    api.add_dag("plain", "no record")
    with pytest.raises(InvalidOptionError, match="the DAG plain is not a Metaflow flow"):
        open_deployment(client, "plain")


def test_the_owner_and_whoever_has_the_token_may_change_a_deployment(deployed: DeployedDag) -> None:
    record = replace(deployed.record, owner="ann", token_proof=make_proof("t-1", "d"), deployment="d")
    check_owner(record, "x", Caller(user="ann", token=None))
    check_owner(record, "x", Caller(user="bob", token="t-1"))
    check_owner(record, "x", Caller(user=None, token="production:t-1"))
    for caller in (Caller(user="bob", token=None), Caller(user="bob", token="t-2"), Caller(user=None, token="")):
        with pytest.raises(InvalidOptionError, match="x was deployed to Airflow by the user ann"):
            check_owner(record, "x", caller)
    deployed.authorize(Caller(user=deployed.record.owner, token=None))
    with pytest.raises(InvalidOptionError, match=r"flow.one was deployed"):
        deployed.authorize(Caller(user="mallory", token="guess"))
    with pytest.raises(InvalidOptionError, match="deployed by an older release"):
        check_owner(replace(record, token_proof=""), "x", Caller(user="bob", token="t-1"))


def test_a_run_of_a_paused_dag_would_wait_and_is_refused_unless_it_may_be_unpaused(
    api: AirflowApi, client: AirflowClient, deployed: DeployedDag
) -> None:
    deployed.ready()
    assert api.paths("PATCH") == []
    api.dags["flow.one"]["is_paused"] = True
    paused = open_deployment(client, "flow.one")
    with pytest.raises(DagNotReadyError, match=r"flow.one is paused, so that a run would wait. Give --unpause"):
        paused.ready()
    paused.ready(unpause=True)
    assert api.dags["flow.one"]["is_paused"] is False


def test_a_run_has_its_ids_before_it_starts_and_an_address(api: AirflowApi, deployed: DeployedDag) -> None:
    planned = deployed.plan_run()
    assert planned.dag_run_id.startswith("metaflow__")
    assert planned.dag_run_id != deployed.plan_run().dag_run_id
    assert deployed.start(planned, {"text": "x"}, note="n").run_id == planned.run_id
    assert api.runs["flow.one"][0]["conf"] == {"text": "x"}
    assert deployed.url(planned) == f"{api.url}/dags/flow.one/runs/{planned.dag_run_id}"
    api.add_run("flow.one", "manual__2026-01-01T00:00:00+00:00")
    assert deployed.url(deployed.find("manual__2026-01-01T00:00:00+00:00")).endswith("T00%3A00%3A00%2B00%3A00")


@pytest.mark.parametrize("state", ["success", "failed"])
def test_a_run_that_has_ended_can_be_neither_ended_nor_held(api: AirflowApi, deployed: DeployedDag, state: str) -> None:
    api.add_run("flow.one", "r", state)
    run = deployed.find("r")
    status = {"success": "SUCCEEDED", "failed": "FAILED"}[state]
    with pytest.raises(InvalidOptionError, match=f"the run {RUN} has already ended as {status}"):
        deployed.terminate(run)
    with pytest.raises(InvalidOptionError, match="has already ended"):
        deployed.hold(run, paused=True)
    assert api.paths("PATCH") == []


def test_a_run_that_goes_on_is_ended_or_held_with_all_others_of_its_dag(api: AirflowApi, deployed: DeployedDag) -> None:
    for name, state in (("r", "running"), ("q", "queued"), ("s", "success"), ("t", "running")):
        api.add_run("flow.one", name, state)
    assert deployed.hold(deployed.find("r"), paused=True) == 2
    assert api.dags["flow.one"]["is_paused"] is True
    deployed.hold(deployed.find("r"), paused=False)
    assert api.dags["flow.one"]["is_paused"] is False
    deployed.terminate(deployed.find("r"))
    assert [one["state"] for one in api.runs["flow.one"]] == ["failed", "queued", "success", "running"]


def test_only_a_failed_run_goes_on_in_place(api: AirflowApi, deployed: DeployedDag) -> None:
    api.add_run("flow.one", "r", "failed")
    api.add_task("r", "body", "failed", 1)
    assert deployed.resume_in_place(deployed.find("r")) == 1
    for name, state, status in (("s", "success", "SUCCEEDED"), ("t", "running", "RUNNING")):
        api.add_run("flow.one", name, state)
        with pytest.raises(InvalidOptionError, match=f"is {status}; only a failed run can be resumed"):
            deployed.resume_in_place(deployed.find(name))


def test_a_step_of_any_run_that_has_ended_runs_again_in_place_with_all_after_it(
    api: AirflowApi, deployed: DeployedDag
) -> None:
    api.add_run("flow.one", "r", "success")
    for step in ("start", "body", "collect", "end"):
        api.add_task("r", step, "success")
    assert deployed.resume_in_place(deployed.find("r"), "body") == 3
    assert [one["state"] for one in api.tasks["r"]] == ["success", None, None, None]
    with pytest.raises(InvalidOptionError, match="has no step 'boddy' to run again"):
        deployed.resume_in_place(deployed.find("r"), "boddy")
    api.add_run("flow.one", "t", "running")
    with pytest.raises(InvalidOptionError, match="is still running"):
        deployed.resume_in_place(deployed.find("t"), "body")


def test_a_resumed_run_takes_the_parameters_of_its_origin_unless_others_are_given(
    api: AirflowApi, deployed: DeployedDag
) -> None:
    api.add_run("flow.one", "r", "failed", conf={"text": "a", "other": 1, "metaflow_resume": {"origin": "x"}})
    assert deployed.resume_conf(RUN, "collect", {"text": "b"}) == {
        "text": "b",
        "other": 1,
        "metaflow_resume": {"origin": RUN, "step": "collect", "given": ["text"]},
    }
    assert deployed.resume_conf("r", None, {})["metaflow_resume"] == {"origin": RUN, "step": None, "given": []}
    with pytest.raises(
        InvalidOptionError, match=r"no step 'colect' to run again. Steps are: start, body, collect, end"
    ):
        deployed.resume_conf(RUN, "colect", {})
    api.add_run("flow.one", "t", "running")
    with pytest.raises(InvalidOptionError, match="is still running"):
        deployed.resume_conf("t", None, {})


def test_a_resumed_run_takes_what_events_brought_to_its_origin(
    api: AirflowApi, client: AirflowClient, compiled: Callable[..., Manifest]
) -> None:
    api.add_dag("e", record_line(compiled("events/on_event")))
    api.add_run("e", "r", "failed", conf={"untouched": 9})
    payload = {"size": 1.5, "text": "told", "table": {}}
    api.events["r"] = [
        {"name": "x-metaflow-event://tests.OnEventFlow", "extra": payload, "timestamp": "2026-01-01T00:00:01Z"}
    ]
    conf = open_deployment(client, "e").resume_conf("r", None, {})
    del conf["metaflow_resume"]
    assert conf == {"alpha": 1.5, "text": "told", "table": {}, "untouched": 9}


def test_a_deployment_with_runs_that_go_on_is_not_idle(
    api: AirflowApi, client: AirflowClient, deployed: DeployedDag
) -> None:
    check_idle(client, "not-there-yet", "GroupedFlow")
    api.add_run("flow.one", "s", "success")
    check_idle(client, "flow.one", "GroupedFlow")
    api.add_run("flow.one", "r", "queued")
    with pytest.raises(InvalidOptionError, match=rf"1 runs of flow.one are running, e.g. {RUN}"):
        check_idle(client, "flow.one", "GroupedFlow")


def test_a_deployment_is_waited_for_until_airflow_has_the_one_that_was_made_last(
    api: AirflowApi, client: AirflowClient, deployed: DeployedDag, compiled: Callable[..., Manifest]
) -> None:
    told: list[str] = []
    looks: list[int] = []
    newer = record_line(compiled("grouped", "--tag", "new"))

    def parse(_: str, path: str) -> None:
        looks.append(1)
        if path.endswith("/details") and len(looks) > 4:
            api.dags["flow.one"]["doc_md"] = newer

    api.on_request = parse
    from airflow_provider_metaflow.deploy.record import from_markdown

    record = from_markdown(newer)
    assert record is not None
    found = wait_for_deployment(client, "flow.one", "GroupedFlow", digest=record.digest, timeout=20, report=told.append)
    assert found.record.digest == record.digest
    assert told == ["Waiting for Airflow to parse the DAG flow.one..."]
