"""What a flow asks of Argo Workflows, on a real one: decorators, parameters, schedule, hooks, verbs, embedding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.argo import ROLES, Argo, Workflow
from tests.support.decorated import assert_decorated
from tests.support.interpreter import python
from tests.support.kubernetes import HOST, IMAGE, NAMESPACE
from tests.support.listener import listener
from tests.support.metadata_service import MetadataService, metadata_service
from tests.support.object_store import BUCKET
from tests.support.results import artifacts
from tests.support.resumes import check_resumes

pytestmark = [pytest.mark.scheduler, pytest.mark.kubernetes]

TRICKY = """it's "quoted" $HOME $(HOME) `id` {{workflow.name}} {{=1+1}} {{inputs.parameters.place}} \\n
second line, grün 🎉"""


@pytest.fixture(scope="module")
def service() -> Iterator[MetadataService]:
    with metadata_service("", HOST) as started:
        yield started


@pytest.fixture(scope="module")
def serviced(argo: Argo, service: MetadataService) -> Iterator[Argo]:
    """The same Argo, with a metadata service."""
    settings = {"METAFLOW_DEFAULT_METADATA": "service", "METAFLOW_SERVICE_URL": service.url}
    yield replace(argo, environment={**argo.environment, **settings})
    argo.clean()


@pytest.fixture(scope="module")
def runs(serviced: Argo, flows: Path) -> dict[str, Workflow]:
    serviced.create(flows / "containers/decorated.py", "--tag", "nightly", "--tag", "team:ml", name="decorated")
    # A file beside the flow comes to a container only in the package.
    suffixes = ("--package-suffixes", ".py,.json")
    serviced.create(flows / "files/parameters.py", "--new-token", "custom-token", top=suffixes, name="parameters")
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
        "decorated": serviced.start("decorated", "DecoratedFlow"),
        "parameters": serviced.start("parameters", "ParametersFlow", given),
    }


def test_retry_catch_environment_and_secrets_are_those_of_a_local_run(
    runs: dict[str, Workflow],
) -> None:
    runs["decorated"].wait(timeout=600)
    assert_decorated(runs["decorated"].artifacts())
    assert len(runs["decorated"].argo.store.cards("DecoratedFlow", runs["decorated"].run_id)) == 1


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


@pytest.mark.extended
def test_names_that_are_no_labels_and_texts_that_argo_cannot_read_run(
    serviced: Argo, flows: Path, tmp_path: Path
) -> None:
    flow, given = flows / "argo/awkward.py", "{{=given+}} {{"

    def triggered(*arguments: str) -> Workflow:
        serviced.flow(flow, "trigger", "--run-id-file", str(tmp_path / "run"), *arguments)
        return Workflow(serviced, "AwkwardFlow", (tmp_path / "run").read_text().removeprefix("argo-"))

    # The first run comes right after its template, which the controller may not have seen.
    serviced.create(flow)
    runs = {'{{=1+}} {{ workflow.name }} {{=1+1}} "ü" {{': triggered(), given: triggered("--text", given)}
    for text, run in runs.items():
        run.wait()
        found = run.artifacts()
        assert found["start"][((), ())]["seen"] == text
        assert len(found) == 4
    pods = serviced.cluster.get("pods", "-l", f"workflows.argoproj.io/workflow={runs[given].name}")
    notes = [one["metadata"]["annotations"] for one in pods]
    assert {one["metaflow/step_name"] for one in notes} == set(found)
    assert {one["metaflow/attempt"] for one in notes} == {"0"}


def test_a_terminated_run_ends_its_gang_at_once(serviced: Argo, flows: Path) -> None:
    flow = flows / "containers/patient_gang.py"
    serviced.create(flow, name="patient-gang")
    run = serviced.start("patient-gang", "PatientGangFlow")
    serviced.wait_until(lambda: run.has("started-0") and run.has("started-1"), timeout=240)
    logs = serviced.flow(flow, "--name", "patient-gang", "logs", run.run_id, "--step", "train").stdout
    assert "node 0 runs" in logs
    assert "node 1 runs" in logs
    serviced.flow(flow, "--name", "patient-gang", "terminate", run.run_id)
    of_run = ("-l", f"metaflow/argo-workflows-name={run.name}")
    serviced.wait_until(lambda: not serviced.cluster.get("jobs", *of_run), timeout=15)
    serviced.wait_until(lambda: not serviced.cluster.get("pods", *of_run), timeout=60)
    # Argo kills the pod that watches the gang's object before it can report, and calls the workflow itself "Running"
    # until its TASK_RESULT_TIMEOUT_DURATION of ten minutes is over.
    serviced.wait_until(lambda: run.nodes()[run.name].get("phase") == "Failed", timeout=60)


def test_who_may_not_make_an_object_is_told_before_anything_is_changed(
    serviced: Argo, flows: Path, tmp_path: Path
) -> None:
    role = yaml.safe_load((ROLES / "deployer-role.yaml").read_text())
    for rule in role["rules"]:
        if "cronworkflows" in rule["resources"]:
            # It may look, and not make.
            rule["verbs"] = ["get"]
    (tmp_path / "role.yaml").write_text(yaml.safe_dump(role))
    reader = str(serviced.cluster.limited_kubeconfig("half-deployer", tmp_path / "role.yaml"))
    done = serviced.flow(flows / "argo/nightly.py", "--name", "refused", "create", check=False, KUBECONFIG=reader)
    assert "cronworkflows" in done.stdout + done.stderr
    assert "forbidden" in done.stdout + done.stderr
    assert "refused" not in serviced.cluster.kubectl("-n", NAMESPACE, "get", "workflowtemplate", "-o", "name")


@pytest.mark.extended
def test_a_heartbeat_tells_the_service_that_a_run_is_alive(
    serviced: Argo, service: MetadataService, flows: Path
) -> None:
    serviced.create(flows / "linear.py", "--enable-heartbeat-daemon", name="beating")
    run = serviced.start("beating", "LinearFlow")
    run.wait()
    assert f"/flows/LinearFlow/runs/{run.run_id}/heartbeat" in service.beats
    # It ends with the run, and does not fail it.
    assert run.nodes()["heartbeat-daemon"]["phase"] == "Succeeded"


@pytest.mark.extended
def test_a_schedule_starts_runs(serviced: Argo, flows: Path) -> None:
    serviced.create(flows / "argo/nightly.py", name="nightly")
    cron = json.loads(serviced.cluster.kubectl("-n", NAMESPACE, "get", "cronworkflow", "nightly", "-o", "json"))
    assert (cron["spec"]["schedules"], cron["spec"]["timezone"]) == (["* * * * *"], "Europe/Berlin")

    def started() -> list[str]:
        listed = serviced.flow(flows / "argo/nightly.py", "--name", "nightly", "list-runs").stdout
        return [line.split()[-1] for line in listed.splitlines() if " argo-nightly-" in line]

    serviced.wait_until(started, timeout=90)
    run = Workflow(serviced, "NightlyFlow", started()[-1].removeprefix("argo-"))
    run.wait(timeout=120)
    assert run.artifacts()["start"][((), ())]["double"] == 4
    # What a user has suspended stays so; what the flow has lost is suspended, and its runs are kept.
    suspend = '{"spec": {"suspend": true}}'
    serviced.cluster.kubectl("-n", NAMESPACE, "patch", "cronworkflow", "nightly", "--type=merge", "-p", suspend)
    serviced.create(flows / "argo/nightly.py", name="nightly")
    cron = json.loads(serviced.cluster.kubectl("-n", NAMESPACE, "get", "cronworkflow", "nightly", "-o", "json"))
    assert cron["spec"]["suspend"] is True
    assert cron["spec"]["successfulJobsHistoryLimit"] == cron["spec"]["failedJobsHistoryLimit"] == 10_000
    serviced.flow(flows / "argo/nightly.py", "--name", "nightly", "delete")
    for kind in ("cronworkflow", "workflowtemplate"):
        assert "nightly" not in serviced.cluster.kubectl("-n", NAMESPACE, "get", kind, "-o", "name")


def test_a_run_is_suspended_terminated_and_shown_by_its_owner_only(serviced: Argo, flows: Path, tmp_path: Path) -> None:
    flow = flows / "linear.py"

    def verb(*arguments: str, check: bool = True, **environment: str) -> str:
        done = serviced.flow(flow, "--name", "steered", *arguments, check=check, **environment)
        return done.stdout + done.stderr

    serviced.create(flow, name="steered")
    verb("trigger", "--run-id-file", str(tmp_path / "run"))
    run_id = (tmp_path / "run").read_text()
    run = Workflow(serviced, "LinearFlow", run_id.removeprefix("argo-"))
    verb("suspend", run_id)
    assert "Suspended" in verb("status", run_id)
    stranger = {"METAFLOW_USER": "mallory", "METAFLOW_HOME": str(tmp_path / "home")}
    assert "belongs to a deployment of the user" in verb("terminate", run_id, check=False, **stranger)
    assert "deployed to Argo Workflows by the user" in verb("create", check=False, **stranger)
    verb("unsuspend", run_id)
    verb("terminate", run_id)
    run.wait(expect="Failed")
    assert "has failed and cannot be suspended" in verb("suspend", run_id, check=False)
    assert "there is no run 'argo-none'" in verb("status", "argo-none", check=False)
    assert "steered" in verb("list-workflow-templates")


def test_a_failed_run_is_resumed_and_takes_over_what_had_finished(serviced: Argo, flows: Path, tmp_path: Path) -> None:
    flow = flows / "containers/unlucky.py"
    serviced.create(flow, name="unlucky")
    first = serviced.start("unlucky", "UnluckyFlow")
    first.wait(expect="Failed")
    # Where a user of Argo looks first.
    assert "ValueError: no luck" in first.nodes()["join"]["message"]
    assert (
        "ValueError: no luck" in serviced.flow(flow, "--name", "unlucky", "logs", first.run_id, "--step", "join").stdout
    )
    serviced.store.client("s3").put_object(Bucket=BUCKET, Key="unlucky/a star", Body=b"")
    # Only the parameter that is given to it lets the second run succeed.
    resume = ["resume", first.run_id, "--wish", "a star", "--run-id-file", str(tmp_path / "run")]
    serviced.flow(flow, "--name", "unlucky", *resume)
    second = Workflow(serviced, "UnluckyFlow", (tmp_path / "run").read_text().removeprefix("argo-"))
    second.wait()
    # Both splits are the origin's.
    joined = second.artifacts()["join"][((), ())]
    assert (joined["made_by"], joined["wished"]) == ([first.run_id] * 2, "a star")


@pytest.mark.extended
def test_runs_are_resumed_by_the_deployer_as_metaflows_own_suite_does_it(serviced: Argo, flows: Path) -> None:
    check_resumes(flows / "resumed.py", "argo", "resumes", {**os.environ, **serviced.environment})


DEPLOYER = """
import sys
from metaflow import DeployedFlow, Deployer
flow = Deployer(sys.argv[1], pylint=False).argo(name="deployed").create(tags=["by-deployer"])
run = flow.trigger()
run.wait_for_completion(check_interval=2, timeout=240)
again = DeployedFlow.from_argo("deployed")
found = type(again).get_triggered_run("deployed", run.pathspec.split("/")[1])
print(run.status, found.status, again.production_token == flow.production_token, "by-deployer" in run.run.user_tags)
names = [one.deployer.name for one in type(again).list_deployed_flows("LinearFlow")]
print("deployed" in names, again.delete())
"""


def test_the_deployer_api_deploys_triggers_and_finds_flows_again(serviced: Argo, flows: Path) -> None:
    arguments = [sys.executable, "-c", DEPLOYER, str(flows / "linear.py")]
    done = subprocess.run(arguments, capture_output=True, text=True, env={**os.environ, **serviced.environment})
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert "Succeeded Succeeded True True" in lines
    assert lines[-1] == "True True"


@pytest.mark.extended
def test_a_flow_runs_twice_inside_a_users_own_workflow(serviced: Argo, flows: Path) -> None:
    arguments = [sys.executable, str(ROLES / "own_workflow.py"), str(flows / "switch.py"), IMAGE, NAMESPACE]
    made = subprocess.run(arguments, capture_output=True, text=True, env={**os.environ, **serviced.environment})
    assert made.returncode == 0, made.stderr
    submitted = serviced.cluster.kubectl("-n", NAMESPACE, "create", "-o", "json", "-f", "-", text=made.stdout)
    workflow = Workflow(serviced, "SwitchFlow", json.loads(submitted)["metadata"]["name"])
    workflow.wait(timeout=400)
    for name, route in (("one", "short"), ("two", "long")):
        run_id = f"{workflow.run_id}-{name}"
        found = artifacts(serviced.store.root, "SwitchFlow", run_id, environment=serviced.environment)
        assert found["start"][((), ())]["choice"] == route
    told = workflow.log(workflow.nodes()["report"])
    assert f"made by SwitchFlow/{workflow.run_id}-one and SwitchFlow/{workflow.run_id}-two" in told


@pytest.mark.extended
def test_exit_hooks_and_notifications_come_after_the_run_and_change_nothing_about_it(
    serviced: Argo, flows: Path, tmp_path: Path
) -> None:
    source = (flows / "events" / "hooked.py").read_text()
    flow = tmp_path / "hooked.py"
    flow.write_text(
        source.replace(
            'with open(os.environ["HOOK_NOTES"], "a") as file:\n        file.write(text + "\\n")', 'print("NOTE", text)'
        )
    )
    with listener(host=HOST) as (url, got):
        serviced.create(flow, "--notify-on-error", "--notify-slack-webhook-url", f"{url}/hook", name="hooked")
        bad = serviced.start("hooked", "HookedFlow", {"fails": "True"})
        good = serviced.start("hooked", "HookedFlow")
        bad.wait(expect="Failed")
        good.wait()
    ((path, _, message),) = got
    assert path == "/hook"
    assert f"HookedFlow/{bad.run_id}" in json.dumps(message)
    # The address stands in the secret of the deployment, and nowhere else.
    assert url not in serviced.cluster.kubectl("-n", NAMESPACE, "get", "workflowtemplate,workflow", "-o", "json")
    told = good.log(good.nodes()["exit-hook-success-0"])
    assert f"NOTE succeeded HookedFlow/{good.run_id} True True" in told, told
    assert good.nodes()["exit-hook-success-1"]["phase"] == "Failed"
    assert f"NOTE failed HookedFlow/{bad.run_id} False" in bad.log(bad.nodes()["exit-hook-error-2"])
    assert bad.nodes()["exit-hook-success-0"]["phase"] == "Skipped"


@pytest.mark.extended
def test_a_template_of_metaflows_own_deployer_is_replaced_by_its_owner_and_the_yaml_stands_as_it_is(
    serviced: Argo, flows: Path, tmp_path: Path
) -> None:
    flow = flows / "linear.py"
    command = [python(), flow.name, "--no-pylint", "argo-workflows", "--name", "stock", "create"]
    environment = {**os.environ, **serviced.environment}
    done = subprocess.run(command, cwd=flows, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr

    def template() -> Any:
        return json.loads(serviced.cluster.kubectl("-n", NAMESPACE, "get", "workflowtemplate", "stock", "-o", "json"))

    old = template()
    stranger = {"METAFLOW_USER": "mallory", "METAFLOW_HOME": str(tmp_path / "mallory")}
    refused = serviced.flow(flow, "--name", "stock", "create", check=False, **stranger)
    assert "deployed to Argo Workflows by the user" in refused.stdout + refused.stderr
    assert template() == old
    printed = serviced.flow(flow, "--name", "stock", "create", "--only-yaml", top=("--quiet",)).stdout
    # With its token, as GitOps would: the printed text holds none.
    token = old["metadata"]["annotations"]["metaflow/production_token"]
    printed = printed.replace("__PLACEHOLDER_PRODUCTION_TOKEN__", token)
    serviced.cluster.kubectl("-n", NAMESPACE, "replace", "-f", "-", text=printed[printed.index("apiVersion:") :])
    serviced.create(flow, name="stock")
    new = template()
    assert new["metadata"]["annotations"]["metaflow/production_token"] == token
    assert new["spec"] != old["spec"]
    run = serviced.start("stock", "LinearFlow")
    run.wait()
    assert set(run.artifacts()) == {"start", "middle", "end"}
