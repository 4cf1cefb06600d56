"""The command group ``sfn`` and the objects of Metaflow's Deployer, in process, on an account that enforces."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from metaflow._vendor import click
from metaflow.exception import MetaflowException
from tests.engines.aws.authority import Authority
from tests.support.aws_account import DEPLOYER, QUEUE, SETTINGS, Account, aws_account
from tests.support.recorded import on_s3

from metaflow_adapters.step_functions import FlowMachine, compile_flow
from metaflow_adapters.step_functions.aws import client as clients
from metaflow_adapters.step_functions.plan.names import sfn_name
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.sfn import group as sfn_group
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.sfn import runs as sfn_runs
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.deployer import base as deployer_base
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.deployer import sfn_deployer_objects
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.deployer.sfn_deployer_objects import (
    SfnDeployedFlow,
)
from metaflow_orchestration.check.report import read_report
from metaflow_orchestration.documents.manifest import Manifest, read_manifest

CREATE = sfn_group.SfnTarget.options.deploy


class FakeFlow:
    """As much of a flow as the verbs look at."""

    name = "SingleStepFlow"

    def _get_parameters(self) -> Iterator[Any]:
        return iter(())


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    with aws_account(tmp_path) as made:
        yield made


@pytest.fixture
def manifest(recorded: Callable[[str], Manifest]) -> Manifest:
    return on_s3(recorded("single_step"), "single_step")


class Group:
    """The group, as Metaflow's command line calls its commands."""

    def __init__(self, account: Account, manifest: Manifest) -> None:
        self.account = account
        self.told: list[str] = []
        self.obj = SimpleNamespace(
            flow=FakeFlow(),
            aws=account.aws(),
            sfn_name=sfn_name("SingleStepFlow", "single-step", None),
            metadata=SimpleNamespace(metadata_str=lambda: "service@http://here"),
            echo=lambda text="", **_: self.told.append(text),
            graph=SimpleNamespace(nodes={"only": None}, sorted_nodes=["only"]),
        )
        self.manifest = manifest
        self.machine = compile_flow(manifest, settings=SETTINGS, queue=QUEUE)

    def __call__(self, verb: str, *arguments: str) -> None:
        command = sfn_group.group.commands[verb]
        command.main(args=list(arguments), obj=self.obj, standalone_mode=False)

    def start(self) -> str:
        arn = self.account.start(self.machine)
        self.account.ended(arn)
        return f"sfn-{arn.rpartition(':')[2]}"


@pytest.fixture
def group(account: Account, manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> Group:
    made = Group(account, manifest)
    account.grant(made.machine)
    account.flow = "SingleStepFlow"
    monkeypatch.setattr("metaflow_adapters.step_functions.deploy.create.compile_for_aws", made_for(manifest))
    # The queue of the account, and no question of Metaflow's configuration.
    monkeypatch.setattr("metaflow_adapters.step_functions.compile.aws_settings", lambda: SETTINGS)
    monkeypatch.setattr(sfn_group, "token_for", lambda *_: "token-1")
    monkeypatch.setattr(sfn_runs, "get_username", lambda: "ann")
    monkeypatch.setattr("metaflow_adapters.step_functions.aws.client.Aws", lambda: made.obj.aws)
    manifest.remote["compute_defaults"]["batch"] = {**manifest.remote["compute_defaults"]["batch"], "queue": QUEUE}
    return made


def made_for(manifest: Manifest) -> Callable[..., Manifest]:
    """In the place of the compilation, which needs Metaflow's command line: options change the recorded manifest."""

    def compile_for_aws(obj: Any, name: Any, token: str, options: Any) -> Manifest:
        deployment = msgspec.structs.replace(
            manifest.deployment, tags=options.tags, workflow_timeout=options.workflow_timeout,
            notifications=options.notifications, production_token=token, max_workers=options.max_workers,
        )  # fmt: skip
        return msgspec.structs.replace(manifest, deployment=deployment)

    return compile_for_aws


def test_create_deploys_and_tells_metaflows_deployer(group: Group, tmp_path: Path) -> None:
    attributes = tmp_path / "attributes"
    group("create", "--workflow-timeout", "60", "--deployer-attribute-file", str(attributes))
    assert json.loads(attributes.read_text()) == {
        "name": "single-step", "flow_name": "SingleStepFlow", "metadata": "service@http://here",
    }  # fmt: skip
    found = group.obj.aws.find_machine("single-step")
    assert json.loads(found["definition"])["TimeoutSeconds"] == 60
    assert any("production:token-1" in one for one in group.told)
    # With what Metaflow's own deployer calls a distributed map and tags of jobs.
    group.account.grant(compile_flow(group.manifest, settings=SETTINGS, queue=QUEUE, batch_tags={"team": "ml"}))
    group("create", "--aws-batch-tag", "team=ml", "--use-distributed-map")
    definition = json.loads(group.obj.aws.find_machine("single-step")["definition"])
    assert definition["States"]["only"]["Arguments"]["Tags"]["team"] == "ml"


def test_only_json_prints_the_definition_and_calls_nobody(group: Group, capsys: pytest.CaptureFixture[str]) -> None:
    group("create", "--only-json")
    printed = capsys.readouterr()
    assert json.loads(printed.out)["StartAt"] == "only"
    assert "nothing was uploaded" in printed.err
    assert group.account.enforcement.calls == []


def test_manifest_only_writes_the_manifest(group: Group, tmp_path: Path) -> None:
    group("create", "--manifest-only", str(tmp_path / "manifest.json"))
    manifest = read_manifest(tmp_path / "manifest.json")
    assert (manifest.graph.name, manifest.deployment.production_token) == ("SingleStepFlow", "token-1")


def test_what_check_prints_can_be_parsed_and_is_what_a_deployment_needs(
    group: Group, capsys: pytest.CaptureFixture[str]
) -> None:
    group("check", "--policies")
    printed = json.loads(capsys.readouterr().out)
    assert printed["deployer"] == group.machine.resources.policies["deployer"]
    authority = group.account.enforcement.authority = Authority()
    trust = printed.pop("trust")
    authority.add(DEPLOYER, [printed["deployer"]])
    for role, arn in (("state_machine", SETTINGS.machine_role), ("events", SETTINGS.events_role)):
        authority.add(str(arn), [printed[role]], trust[role])
    authority.add("arn:aws:iam::123:role/jobs", [printed["jobs"]], trust["jobs"])
    group("create")
    assert group.start().startswith("sfn-")
    group("check", "--cloudformation")
    assert set(json.loads(capsys.readouterr().out)["Resources"]) >= {"MachineRole", "DeployerPolicy"}
    group("check", "--splits", "3", "--json")
    report = read_report(capsys.readouterr().out)
    (row,) = [row for row in report.rows if row.subject == "state transitions of a run"]
    assert (report.width, row.amount, row.unit) == (3, 1, "transitions")
    assert report.is_supported("step-functions")


def test_an_error_is_one_of_metaflows_with_the_same_message(group: Group) -> None:
    with pytest.raises(MetaflowException, match="no state machine 'single-step'") as raised:
        group("status", "sfn-1")
    assert raised.value.headline == "AWS Step Functions"


def test_verbs_of_a_run(group: Group, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    group.account.deploy(group.machine)
    group("trigger", "--run-id-file", str(tmp_path / "id"), "--deployer-attribute-file", str(tmp_path / "a"))
    run_id = (tmp_path / "id").read_text()
    assert json.loads((tmp_path / "a").read_text())["pathspec"] == f"SingleStepFlow/{run_id}"
    arn = group.obj.aws.states.list_executions(stateMachineArn=group.machine.arn)["executions"][0]["executionArn"]
    group.account.ended(arn)
    group("status", run_id)
    assert capsys.readouterr().out == "SUCCEEDED\n"
    group("list-runs")
    listed = capsys.readouterr().out
    assert listed.startswith(f"{run_id} startedAt:'20")
    assert listed.endswith(" SUCCEEDED\n")
    assert " stoppedAt:'20" in listed
    group("list-runs", "--failed", "--timed-out")
    assert capsys.readouterr().out == ""
    assert group.told[-1] == "No FAILED TIMED_OUT executions for *single-step* found on AWS Step Functions."
    group("logs", run_id, "--step", "only")
    assert capsys.readouterr().out == "only: SingleStepFlow-only ended with 0\n"
    with pytest.raises(MetaflowException, match="has succeeded and cannot be terminated"):
        group("terminate", run_id)
    group("list-deployments")
    assert capsys.readouterr().out == "single-step\n"
    group("delete")
    assert group.obj.aws.find_machine("single-step") is None


def test_stars_of_logs_and_causes_are_printed_as_they_are(
    group: Group, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "2 * 3 * 4 **bold** \x1b[31m"
    monkeypatch.setattr("metaflow_adapters.step_functions.runs.runs.SfnRuns.logs", lambda *_: iter([("only", line)]))
    found = {"status": "FAILED", "error": "E*", "cause": "a * b"}
    monkeypatch.setattr("metaflow_adapters.step_functions.runs.runs.SfnRuns.find", lambda *_: found)
    monkeypatch.setattr("metaflow_adapters.step_functions.runs.runs.SfnRuns.map_lines", lambda *_: iter(["split *"]))
    group("logs", "sfn-1")
    group("status", "sfn-1")
    assert capsys.readouterr().out.startswith("only: 2 * 3 * 4 **bold** ")
    group("status", "sfn-1")
    assert capsys.readouterr().out == "FAILED\nerror: E*\ncause: a * b\nsplit *\n"


def test_a_run_that_failed_is_resumed_or_redriven(group: Group, tmp_path: Path) -> None:
    account = group.account
    account.deploy(group.machine)
    account.task = lambda job: 1
    run_id = group.start()
    account.task = lambda job: 0
    group("resume", run_id, "--run-id-file", str(tmp_path / "id"))
    again = (tmp_path / "id").read_text()
    assert again != run_id
    arn = group.machine.arn.replace(":stateMachine:", ":execution:")
    found = account.ended(f"{arn}:{again.removeprefix('sfn-')}")
    assert json.loads(found["input"])["Origin"] == run_id
    group("resume", run_id, "--redrive", "--run-id-file", str(tmp_path / "id"))
    assert (tmp_path / "id").read_text() == run_id
    account.wait(lambda: account.ended(f"{arn}:{run_id.removeprefix('sfn-')}")["status"] == "SUCCEEDED")
    with pytest.raises(MetaflowException, match=r"there is no step 'absent'\. Steps are: only"):
        group("resume", run_id, "--step-to-rerun", "absent")
    with pytest.raises(click.UsageError):
        group("resume")


def test_the_objects_of_the_deployer_find_flow_and_runs(group: Group) -> None:
    account = group.account
    account.deploy(group.machine)
    account.task = lambda job: 1
    run_id = group.start()
    found = SfnDeployedFlow.from_deployment("single-step")
    assert (found.flow_name, found.production_token, found.deployer.name) == (
        "SingleStepFlow", "token-1", "single-step",
    )  # fmt: skip
    assert [one.pathspec for one in found.list_runs()] == [f"SingleStepFlow/{run_id}"]
    assert found.list_runs(["SUCCEEDED"]) == []
    for wrong, told in ((["x"], "Invalid states"), (["FAILED", "FAILED"], "Duplicate states")):
        with pytest.raises(ValueError, match=told):
            found.list_runs(wrong)
    run = SfnDeployedFlow.get_triggered_run("single-step", run_id)
    assert (run.status, run.is_running) == ("FAILED", False)
    run.wait_for_completion(check_interval=0, timeout=1)
    assert [one.name for one in SfnDeployedFlow.list_deployed_flows("SingleStepFlow")] == ["single-step"]
    assert list(SfnDeployedFlow.list_deployed_flows("OtherFlow")) == []


def test_waiting_for_a_run_ends_with_its_limit(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    group.account.deploy(group.machine)
    run = SfnDeployedFlow.get_triggered_run("single-step", group.start())
    monkeypatch.setattr(sfn_deployer_objects.SfnTriggeredRun, "status", property(lambda _: "RUNNING"))
    with pytest.raises(TimeoutError, match="has not ended in 0 s"):
        run.wait_for_completion(check_interval=0, timeout=0)


def test_a_deployment_that_was_deleted_has_no_token(group: Group) -> None:
    group.account.deploy(group.machine)
    found = SfnDeployedFlow.from_deployment("single-step")
    group("delete")
    assert found.production_token is None


def test_resuming_by_the_deployer_gives_the_verb_its_options(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    group.account.deploy(group.machine)
    run = SfnDeployedFlow.get_triggered_run("single-step", group.start())
    calls = []
    content = json.dumps({"name": "sfn-2", "metadata": "local", "pathspec": "SingleStepFlow/sfn-2"})
    monkeypatch.setattr(
        deployer_base, "started_run", lambda deployer, verb, **given: calls.append((verb, given)) or content
    )
    assert run.resume(step_to_rerun="only").pathspec == "SingleStepFlow/sfn-2"
    run.resume(redrive=True)
    found = SfnDeployedFlow.from_deployment("single-step")
    found.trigger(alpha=1)
    found.resume(origin_run_id="sfn-9", step_to_rerun="only", alpha=2)
    found.resume("sfn-9", redrive=True, alpha=3)
    first = run.pathspec.split("/")[1]
    assert calls == [
        ("resume", {"origin_run_id": first, "step_to_rerun": "only"}),
        ("resume", {"origin_run_id": first, "redrive": True}),
        ("trigger", {"alpha": 1}),
        ("resume", {"origin_run_id": "sfn-9", "step_to_rerun": "only", "alpha": 2}),
        ("resume", {"origin_run_id": "sfn-9", "redrive": True, "alpha": 3}),
    ]


def test_nothing_here_talks_to_aws_itself(group: Group) -> None:
    assert clients.Aws() is group.obj.aws
    assert isinstance(group.machine, FlowMachine)
