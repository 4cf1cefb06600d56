"""Metaflow's decorators, parameters, configs and identity, as a run on a real Airflow honours them."""

from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path
from typing import Any

import metaflow
import pytest
from tests.support.airflow import FlowRun, SharedAirflow

pytestmark = pytest.mark.scheduler

TRICKY = """it's "quoted" $HOME `id` {{ ds }} {% raw %} \\n
second line, grün 🎉"""


def client_run(run: FlowRun) -> Any:
    metaflow.metadata(f"local@{run.airflow.sysroot}")
    metaflow.namespace(None)
    return metaflow.Run(f"{run.flow}/{run.run_id}")


@pytest.fixture(scope="module")
def feature_runs(airflow: SharedAirflow, flows: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, FlowRun]:
    airflow.create(flows / "decorators.py", "--tag", "nightly", "--tag", "team:ml")
    airflow.create(flows / "files" / "parameters.py", "--new-token", "custom-token")
    project = tmp_path_factory.mktemp("project")
    shutil.copytree(flows / "project", project, dirs_exist_ok=True)
    airflow.create(project / "configured.py", top=("--branch", "trial"))
    # What the config said at deploy time is what counts.
    (project / "settings.json").write_text("{}")
    given = {
        "number": 12,
        "ratio": 2.5,
        "flag": True,
        "text": TRICKY,
        "config": {"k": ["v", TRICKY]},
        "required": "-starts --with=dash",
        "dag_run": TRICKY,
        "with-dash": "=",
    }
    return {
        "decorators": airflow.start("DecoratorsFlow", "DecoratorsFlow"),
        "parameters": airflow.start("ParametersFlow", "ParametersFlow", given),
        "defaults": airflow.start("ParametersFlow", "ParametersFlow", {"required": "x"}),
        "project": airflow.start("testproject.test.trial.ConfiguredFlow", "ConfiguredFlow"),
    }


def test_retry_catch_and_timeout_end_as_they_do_on_metaflows_own_scheduler(
    feature_runs: dict[str, FlowRun],
) -> None:
    run = feature_runs["decorators"]
    run.wait()
    end = run.artifacts()["end"][((), ())]
    assert end["attempt"] == 2
    assert "never" in end["problems"][0]
    assert "failing over 2 attempts" in end["problems"][1]
    assert "timed out" in end["problems"][2]
    tries = {task: one.try_number for (task, _), one in run.instances().items()}
    assert (tries["retried"], tries["caught"]) == (3, 2)
    # Two attempts of user code were killed; the third runs the fallback.
    assert tries["killed"] == 3


def test_environment_and_secrets_reach_the_step(feature_runs: dict[str, FlowRun]) -> None:
    run = feature_runs["decorators"]
    run.wait()
    end = run.artifacts()["end"][((), ())]
    assert end["colour"] == ("grün $HOME {{ ds }}", "7")
    assert end["length"] == 4
    assert "AIRFLOW_CTX_DAG_RUN_ID" in end["seen"]


def test_a_card_is_readable_by_the_client(feature_runs: dict[str, FlowRun]) -> None:
    from metaflow.cards import get_cards

    run = feature_runs["decorators"]
    run.wait()
    (found,) = get_cards(client_run(run)["with_card"].task)
    # A card holds its components as base64.
    blobs = re.findall(r'"([A-Za-z0-9+/]{80,}={0,2})"', found.get())
    assert any(b"seen on the card" in base64.b64decode(blob) for blob in blobs if len(blob) % 4 == 0)


def test_the_logs_of_every_attempt_are_whole_and_in_order_in_both_places(
    feature_runs: dict[str, FlowRun],
) -> None:
    run = feature_runs["decorators"]
    run.wait()
    task = client_run(run)["chatty"].task
    assert task.stdout == "".join(f"out {n}\n" for n in range(300)) + "no newline at the end\n"
    assert task.stderr.startswith("".join(f"err {n}\n" for n in range(100)))
    log = run.log("chatty").splitlines()
    assert [line for line in log if line.startswith("out ")] == [f"out {n}" for n in range(300)]
    assert [line for line in log if line.startswith("err ")] == [f"err {n}" for n in range(100)]
    retried = client_run(run)["retried"].task.path_components
    for attempt in range(3):
        one = metaflow.Task("/".join(retried), attempt=attempt)
        assert one.stdout == f"attempt {attempt}\n"
        assert f"attempt {attempt}" in run.log("retried", try_number=attempt + 1)


def test_tags_token_and_links_are_on_the_run(feature_runs: dict[str, FlowRun]) -> None:
    run = feature_runs["decorators"]
    run.wait()
    found = client_run(run)
    assert {"nightly", "team:ml"} <= set(found.user_tags)
    assert {"runtime:airflow", "production:decoratorsflow-0-zlfh"[:27]} <= {
        tag[:27] for tag in found.system_tags
    } | set(found.system_tags)
    links = found["start"].task.metadata_dict
    assert links["airflow-dag-id"] == run.dag_id
    assert links["airflow-dag-run-id"] == run.dag_run_id
    assert f"Metaflow task DecoratorsFlow/{run.run_id}/start/t-start" in run.log("start")


def test_parameters_arrive_byte_for_byte(feature_runs: dict[str, FlowRun]) -> None:
    run = feature_runs["parameters"]
    run.wait()
    start = run.artifacts()["start"][((), ())]
    assert start["seen"] == {
        "number": 12,
        "ratio": 2.5,
        "flag": True,
        "text": TRICKY,
        "nothing": None,
        "config": {"k": ["v", TRICKY]},
        "required": "-starts --with=dash",
        "dag_run": TRICKY,
        "conf": "conf",
        "retry_count": 9,
        "dashed": "=",
        "notes": 'some notes\nwith "quotes"\n',
    }
    assert start["beside"] == {"beside": True}


def test_defaults_are_those_of_deploy_time(feature_runs: dict[str, FlowRun], airflow: SharedAirflow) -> None:
    run = feature_runs["defaults"]
    run.wait()
    start = run.artifacts()["start"][((), ())]
    manifest = json.loads((airflow.server.dags / "ParametersFlow.metaflow.json").read_text())["manifest"]
    deployed = {p["name"]: p.get("default") for p in manifest["graph"]["parameters"]}
    assert start["late"] == deployed["late"]
    assert start["seen"]["number"] == 3
    assert start["seen"]["config"] == {"a": [1, 2]}


def test_a_required_parameter_is_required_at_trigger(feature_runs: dict[str, FlowRun], airflow: SharedAirflow) -> None:
    from airflow_provider_metaflow.rest.client import AirflowApiError

    with pytest.raises(AirflowApiError, match="required"):
        airflow.start("ParametersFlow", "ParametersFlow", {})
    with pytest.raises(AirflowApiError, match="number"):
        airflow.start("ParametersFlow", "ParametersFlow", {"required": "x", "number": "many"})


def test_project_config_mutator_and_user_decorator_are_those_of_the_deployment(
    feature_runs: dict[str, FlowRun],
) -> None:
    run = feature_runs["project"]
    run.wait()
    start = run.artifacts()["start"][((), ())]
    end = run.artifacts()["end"][((), ())]
    assert start["level"] == "high"
    assert start["threshold"] == 3
    assert start["branch"] == "test.trial"
    assert start["production"] is False
    assert start["user"] == "tester"
    assert start["notes"] == ["before start", "after start"]
    assert end["taken"] == "second"
    assert end["mutated"] == "yes"
    assert {"project:testproject", "project_branch:test.trial"} <= set(client_run(run).system_tags)
