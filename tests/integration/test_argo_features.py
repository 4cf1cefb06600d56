"""What a flow asks of Argo Workflows, on a real one: decorators, parameters, schedule, hooks, verbs, embedding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.argo import Argo, Workflow
from tests.support.argo import argo as started_argo
from tests.support.kubernetes import HOST, IMAGE, NAMESPACE, Cluster
from tests.support.metadata_service import metadata_service
from tests.support.object_store import BUCKET, ObjectStore
from tests.support.results import artifacts

pytestmark = [pytest.mark.scheduler, pytest.mark.kubernetes]

TRICKY = """it's "quoted" $HOME $(HOME) `id` {{workflow.name}} {{=1+1}} {{inputs.parameters.place}} \\n
second line, grün 🎉"""


@pytest.fixture(scope="module")
def argo(cluster: Cluster, cluster_store: ObjectStore) -> Iterator[Argo]:
    with started_argo(cluster, cluster_store) as started, metadata_service("", HOST) as service:
        started.environment.update(METAFLOW_DEFAULT_METADATA="service", METAFLOW_SERVICE_URL=service.url)
        yield started


@pytest.fixture(scope="module")
def runs(argo: Argo, flows: Path) -> dict[str, Workflow]:
    argo.create(flows / "argo/decorated.py", "--tag", "nightly", "--tag", "team:ml", name="decorated")
    argo.create(flows / "files" / "parameters.py", "--new-token", "custom-token", name="parameters")
    given = {
        "number": "12",
        "ratio": "2.5",
        "flag": "True",
        "text": TRICKY,
        "config": json.dumps({"k": ["v", TRICKY]}),
        "required": "-starts --with=dash",
        "dag_run": TRICKY,
        "with-dash": "=",
    }
    return {
        "decorated": argo.start("decorated", "DecoratedFlow"),
        "parameters": argo.start("parameters", "ParametersFlow", given),
    }


def test_retry_catch_environment_and_secrets_are_those_of_a_local_run(
    runs: dict[str, Workflow],
) -> None:
    runs["decorated"].wait(timeout=600)
    found = runs["decorated"].artifacts()["meet"][((), ())]
    assert found["attempt"] == 2
    assert "never" in found["problems"][0]
    # A step that was killed has no exception of its own to tell.
    assert found["problems"][1] != "None"
    assert (found["colour"], found["length"]) == ("grün $HOME {{workflow.name}} $(HOME)", 4)


def test_parameters_arrive_byte_for_byte(runs: dict[str, Workflow]) -> None:
    runs["parameters"].wait(timeout=300)
    seen = runs["parameters"].artifacts()["start"][((), ())]["seen"]
    assert seen == {
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


def test_a_schedule_starts_runs(argo: Argo, flows: Path) -> None:
    argo.create(flows / "argo/nightly.py", name="nightly")
    cron = json.loads(argo.cluster.kubectl("-n", NAMESPACE, "get", "cronworkflow", "nightly", "-o", "json"))
    assert (cron["spec"]["schedules"], cron["spec"]["timezone"]) == (["* * * * *"], "Europe/Berlin")

    def started() -> list[str]:
        listed = argo.flow(flows / "argo/nightly.py", "--name", "nightly", "list-runs").stdout
        return [line.split()[-1] for line in listed.splitlines() if " argo-nightly-" in line]

    argo.wait_until(started, timeout=90)
    run = Workflow(argo, "NightlyFlow", started()[-1].removeprefix("argo-"))
    run.wait(timeout=120)
    assert run.artifacts()["start"][((), ())]["double"] == 4
    argo.flow(flows / "argo/nightly.py", "--name", "nightly", "delete")
    for kind in ("cronworkflow", "workflowtemplate"):
        assert "nightly" not in argo.cluster.kubectl("-n", NAMESPACE, "get", kind, "-o", "name")


def test_a_run_is_suspended_terminated_and_shown_by_its_owner_only(argo: Argo, flows: Path) -> None:
    flow = flows / "linear.py"

    def verb(*arguments: str, check: bool = True, **environment: str) -> str:
        done = argo.flow(flow, "--name", "steered", *arguments, check=check, **environment)
        return done.stdout + done.stderr

    argo.create(flow, name="steered")
    verb("trigger", "--run-id-file", "/tmp/steered-run")
    run_id = Path("/tmp/steered-run").read_text()
    run = Workflow(argo, "LinearFlow", run_id.removeprefix("argo-"))
    verb("suspend", run_id)
    assert "Suspended" in verb("status", run_id)
    stranger = {"METAFLOW_USER": "mallory", "METAFLOW_HOME": "/tmp/steered-home"}
    assert "belongs to a deployment of the user" in verb("terminate", run_id, check=False, **stranger)
    assert "deployed to Argo Workflows by the user" in verb("create", check=False, **stranger)
    verb("unsuspend", run_id)
    verb("terminate", run_id)
    run.wait(expect="Failed")
    assert "has failed and cannot be suspended" in verb("suspend", run_id, check=False)
    assert "there is no run 'argo-none'" in verb("status", "argo-none", check=False)
    assert "steered" in verb("list-workflow-templates")


def test_a_failed_run_is_resumed_and_takes_over_what_had_finished(argo: Argo, flows: Path) -> None:
    flow = flows / "argo/unlucky.py"
    argo.create(flow, name="unlucky")
    first = argo.start("unlucky", "UnluckyFlow")
    first.wait(expect="Failed")
    assert "ValueError: no luck" in argo.flow(flow, "--name", "unlucky", "logs", first.run_id, "--step", "join").stdout
    argo.store.client("s3").put_object(Bucket=BUCKET, Key="unlucky/luck", Body=b"")
    argo.flow(flow, "--name", "unlucky", "resume", first.run_id, "--run-id-file", "/tmp/unlucky-run")
    second = Workflow(argo, "UnluckyFlow", Path("/tmp/unlucky-run").read_text().removeprefix("argo-"))
    second.wait()
    # Both splits are the origin's.
    assert second.artifacts()["join"][((), ())]["made_by"] == [first.run_id] * 2


def test_a_flow_runs_twice_inside_a_users_own_workflow(argo: Argo, flows: Path) -> None:
    arguments = [sys.executable, str(flows / "argo/embedding.py"), str(flows / "switch.py"), IMAGE, NAMESPACE]
    made = subprocess.run(arguments, capture_output=True, text=True, env={**os.environ, **argo.environment})
    assert made.returncode == 0, made.stderr
    submitted = argo.cluster.kubectl("-n", NAMESPACE, "create", "-o", "json", "-f", "-", text=made.stdout)
    workflow = Workflow(argo, "SwitchFlow", json.loads(submitted)["metadata"]["name"])
    workflow.wait(timeout=400)
    for name, route in (("one", "short"), ("two", "long")):
        run_id = f"{workflow.run_id}-{name}"
        found = artifacts(argo.store.root, "SwitchFlow", run_id, environment=argo.environment)
        assert found["start"][((), ())]["choice"] == route


def test_exit_hooks_and_notifications_come_after_the_run_and_change_nothing_about_it(
    argo: Argo, flows: Path, tmp_path: Path
) -> None:
    source = (flows / "events" / "hooked.py").read_text()
    flow = tmp_path / "hooked.py"
    flow.write_text(
        source.replace(
            'with open(os.environ["HOOK_NOTES"], "a") as file:\n        file.write(text + "\\n")', 'print("NOTE", text)'
        )
    )
    argo.create(flow, name="hooked")
    bad = argo.start("hooked", "HookedFlow", {"fails": "True"})
    good = argo.start("hooked", "HookedFlow")
    bad.wait(expect="Failed")
    good.wait()
    told = good.log(good.nodes()["exit-hook-success-0"])
    assert f"NOTE succeeded HookedFlow/{good.run_id} True True" in told, told
    assert good.nodes()["exit-hook-success-1"]["phase"] == "Failed"
    assert f"NOTE failed HookedFlow/{bad.run_id} False" in bad.log(bad.nodes()["exit-hook-error-2"])
    assert bad.nodes()["exit-hook-success-0"]["phase"] == "Skipped"
