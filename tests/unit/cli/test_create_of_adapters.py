"""`argo create`, `sfn create` and `sfn check`: what is made, printed, kept secret, and told to the Deployer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace
from tests.support.command_line import CommandLine, Result
from tests.support.manifests import deployed_on_s3

from metaflow_adapters.argo import deploy as argo_deploy
from metaflow_adapters.argo.cluster.client import ArgoCluster
from metaflow_adapters.step_functions.deploy import create as sfn_create
from metaflow_adapters.step_functions.machine import FlowMachine
from metaflow_orchestration.documents.manifest import Manifest, read_manifest
from metaflow_orchestration.exceptions import InvalidOptionError


class Target:
    """An orchestrator that notes what is deployed to it; flows are compiled as if their datastore were S3."""

    def __init__(self, compiled: Manifest, terminal: CommandLine, flows: Path) -> None:
        self._compiled, self._terminal, self._flows = deployed_on_s3(compiled), terminal, flows
        self.options: list[Any] = []
        self.deployed: list[Any] = []
        self.secrets: dict[str, Any] = {}
        self.owner: tuple[str | None, str | None] = (None, None)
        self.saved: list[tuple[str, str]] = []

    def compile(self, _: Any, name: Any, token: str, options: Any) -> Manifest:
        self.options.append(options)
        made = replace(
            self._compiled.deployment,
            name=name.name,
            production_token=token,
            tags=options.tags,
            max_workers=options.max_workers,
            workflow_timeout=options.workflow_timeout,
            notifications=options.notifications,
        )
        return replace(self._compiled, deployment=made)

    def store(self, *_: Any) -> Any:
        target = self

        class Store:
            target, group = "Target", "group"

            def load(self) -> tuple[str | None, str | None]:
                return target.owner

            def save(self, owner: str, token: str) -> None:
                target.saved.append((owner, token))

        return Store()

    def call(self, *arguments: str, user: str = "alice") -> Result:
        return self._terminal.run(self._flows / "grouped.py", *arguments, user=user)


@pytest.fixture
def target(
    compiled: Callable[..., Manifest], terminal: CommandLine, flows: Path, monkeypatch: pytest.MonkeyPatch
) -> Target:
    made = Target(compiled("grouped"), terminal, flows)

    def apply(deployment: Any, _: ArgoCluster, secret: Any) -> None:
        made.deployed.append(deployment)
        if secret:
            made.secrets[deployment.template.name] = secret

    def deploy(machine: FlowMachine, _: object) -> None:
        made.deployed.append(machine)

    monkeypatch.setattr(argo_deploy, "compile_for_argo", made.compile)
    monkeypatch.setattr(argo_deploy, "TemplateStore", made.store)
    monkeypatch.setattr(argo_deploy, "apply", apply)
    monkeypatch.setattr(sfn_create, "compile_for_aws", made.compile)
    monkeypatch.setattr(sfn_create, "MachineStore", made.store)
    monkeypatch.setattr(FlowMachine, "deploy", deploy)
    return made


def printed(result: Result, begin: str) -> str:
    assert result.code == 0, result.output
    return result.output[result.output.index(begin) :]


# Argo Workflows.


def test_argo_objects_are_printed_and_nothing_is_deployed(target: Target) -> None:
    options = ("--workflow-priority=3", "--workflow-timeout=60", "--max-workers=7", "--ttl-seconds=9", "--tag=a")
    text = printed(target.call("argo", "--name=renamed", "create", "--only-yaml", *options), "apiVersion:")
    (template, *_) = yaml.safe_load_all(text)
    spec = template["spec"]
    assert template["metadata"]["name"] == "renamed"
    assert (spec["priority"], spec["activeDeadlineSeconds"], spec["parallelism"]) == (3, 60, 7)
    assert spec["ttlStrategy"]["secondsAfterCompletion"] == 9
    assert target.options[0].tags == ("a",)
    assert (target.deployed, target.saved, target.secrets) == ([], [], {})


def test_argo_objects_as_json_are_told_to_the_deployer_too(target: Target, tmp_path: Path) -> None:
    result = target.call("argo", "create", "--only-json", "--deployer-attribute-file=told.json")
    made = json.JSONDecoder().raw_decode(printed(result, "[\n"))[0]
    told = json.loads((tmp_path / "told.json").read_text())
    # What `DeployedFlow.workflow_template` returns, as with Metaflow's own deployer.
    assert told["additional_info"]["workflow_template"] == made[0]
    assert (told["name"], told["flow_name"]) == ("groupedflow", "GroupedFlow")


def test_a_flow_is_deployed_to_argo_with_its_token_and_its_secret(target: Target, tmp_path: Path) -> None:
    result = target.call(
        "argo", "create", "--notify-on-error", "--notify-slack-webhook-url=https://s3cret",
        "--deployer-attribute-file=told.json",
    )  # fmt: skip
    assert result.code == 0, result.output
    (deployment,) = target.deployed
    ((owner, token),) = target.saved
    assert owner == "alice"
    assert f"production:{token}" in result.output
    (secret,) = target.secrets.values()
    assert "https://s3cret" in secret.values()
    assert "s3cret" not in deployment.to_yaml() + result.output
    assert "grouped.py argo trigger\n" in result.output
    assert "Nothing starts it by itself. Start a run with" in result.output
    assert f'namespace("production:{token}")' in result.output
    assert f"argo create --authorize {token}" in result.output
    assert json.loads((tmp_path / "told.json").read_text())["name"] == "groupedflow"


def test_a_secret_that_is_printed_nowhere_is_named(target: Target) -> None:
    result = target.call(
        "argo", "create", "--only-yaml", "--notify-on-error", "--notify-slack-webhook-url=https://s3cret"
    )
    assert "s3cret" not in result.output
    assert (
        "Warning: the Kubernetes secret groupedflow-notify is not in here; make it with the keys SLACK."
        in result.output
    )
    assert target.secrets == {}


@pytest.mark.parametrize("group", ["argo", "sfn"])
def test_somebody_else_needs_the_token_to_deploy(target: Target, group: str) -> None:
    target.owner = ("alice", "t0ken")
    refused = target.call(group, "create", "--batch-platform=ec2" if group == "sfn" else "--gang=job", user="bob")
    assert (refused.code, "by the user alice; their production token is needed" in refused.output) == (1, True)
    assert (target.deployed, target.options) == ([], [])
    arguments = ("--batch-platform=ec2",) if group == "sfn" else ()
    assert target.call(group, "create", "--authorize=t0ken", *arguments, user="bob").code == 0
    assert len(target.deployed) == 1


@pytest.mark.parametrize("group", ["argo", "sfn"])
def test_a_manifest_can_be_written_alone(target: Target, tmp_path: Path, group: str) -> None:
    assert target.call(group, "create", "--manifest-only", "m.metaflow.json").code == 0
    assert read_manifest(tmp_path / "m.metaflow.json").graph.name == "GroupedFlow"
    assert (target.deployed, target.saved) == ([], [])


# AWS Step Functions.


def test_a_state_machine_is_printed_and_nothing_is_uploaded(target: Target, tmp_path: Path) -> None:
    result = target.call("sfn", "create", "--only-json", "--deployer-attribute-file=told.json", "--max-workers=4")
    machine = json.JSONDecoder().raw_decode(printed(result, '{"'))[0]
    assert "start" in json.dumps(machine)
    assert (target.options[0].upload, target.options[0].max_workers) == (False, 4)
    assert "Warning: nothing was uploaded" in result.output
    assert json.loads((tmp_path / "told.json").read_text())["name"] == "GroupedFlow"
    assert (target.deployed, target.saved) == ([], [])


def test_a_flow_is_deployed_to_step_functions_with_its_token(target: Target) -> None:
    result = target.call("sfn", "--name=renamed", "create", "--batch-platform=ec2", "--aws-batch-tag=a=b")
    assert result.code == 0, result.output
    (machine,) = target.deployed
    assert machine.name == "renamed"
    assert target.options[0].upload is True
    assert f"production:{target.saved[0][1]}" in result.output
    assert "sfn --name=renamed trigger" in result.output


def test_what_a_run_costs_and_which_policies_it_needs_is_told_without_aws(target: Target) -> None:
    assert "transition" in target.call("sfn", "check", "--splits=3").output
    policies = json.JSONDecoder().raw_decode(printed(target.call("sfn", "check", "--policies"), "{\n"))[0]
    assert "trust" in policies
    template = json.JSONDecoder().raw_decode(printed(target.call("sfn", "check", "--cloudformation"), "{\n"))[0]
    assert "Resources" in template
    assert (target.deployed, target.saved) == ([], [])
    assert {one.upload for one in target.options} == {False}


def test_a_refusal_of_the_compiler_is_one_message(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise InvalidOptionError("cannot be deployed.", flow="GroupedFlow")

    monkeypatch.setattr(argo_deploy, "compile_for_argo", refuse)
    monkeypatch.setattr(sfn_create, "compile_for_aws", refuse)
    for group in ("argo", "sfn"):
        result = target.call(group, "create")
        assert (result.code, "flow GroupedFlow: cannot be deployed." in result.output) == (1, True)
        assert "Traceback" not in result.output
    assert target.deployed == []
