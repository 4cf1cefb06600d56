"""The policies hold what the machine calls, and nothing beyond this deployment."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from tests.engines.aws.authority import Authority, Request
from tests.support.aws_account import SETTINGS
from tests.support.recorded import DECORATED, SHAPES

from metaflow_adapters.step_functions import FlowMachine
from metaflow_adapters.step_functions.settings import AwsSettings
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.graph.model import Decorator, EventTrigger

Make = Callable[..., FlowMachine]


def actions(machine: FlowMachine, role: str) -> dict[str, list[str]]:
    statements = machine.resources.policies[role]["Statement"]
    return {action: one["Resource"] for one in statements for action in one["Action"]}


def test_a_linear_flow_needs_batch_and_its_own_objects_only(machine: Make) -> None:
    made = machine("linear")
    allowed = actions(made, "state_machine")
    assert set(allowed) == {
        "batch:SubmitJob", "batch:DescribeJobs", "batch:TerminateJob", "events:PutTargets", "events:PutRule",
        "events:DescribeRule", "s3:GetObject", "s3:PutObject", "batch:TagResource",
    }  # fmt: skip
    (definition,) = made.resources.job_definitions
    # By a pattern, so that the policy serves later versions of the flow, too.
    stem, digest = definition["jobDefinitionName"].rsplit("-", 1)
    assert (stem, len(digest)) == ("metaflow-linear", 16)
    assert f"arn:aws:batch:eu-west-1:123456789012:job-definition/metaflow-linear-{'?' * 16}" in allowed[
        "batch:SubmitJob"
    ]  # fmt: skip
    assert allowed["s3:GetObject"] == ["arn:aws:s3:::bucket/metaflow/mf.sfn/LinearFlow/*"]


def test_jobs_reach_the_prefixes_of_their_own_flow_only(machine: Make) -> None:
    allowed = actions(machine("linear"), "jobs")
    assert set(allowed) == {"s3:GetObject", "s3:PutObject", "s3:ListBucket"}
    assert allowed["s3:PutObject"] == [
        f"arn:aws:s3:::bucket/metaflow/{one}"
        for one in ("LinearFlow/*", "data/LinearFlow/*", "mf.cards/LinearFlow/*", "mf.sfn/LinearFlow/*")
    ]


def test_the_nodes_of_a_gang_find_each_other_in_a_folder_of_their_flow(machine: Make) -> None:
    allowed = actions(machine("parallel"), "jobs")
    assert "arn:aws:s3:::bucket/metaflow/mf.gangs/ParallelFlow/*" in allowed["s3:PutObject"]


def test_roots_of_the_configuration_take_the_place_of_those_below_the_datastore(machine: Make) -> None:
    def change(manifest: Manifest) -> Manifest:
        roots = {"METAFLOW_DATATOOLS_S3ROOT": "s3://files/data/", "METAFLOW_CARD_S3ROOT": "s3://cards"}
        environment = {**manifest.remote["environment"], **roots}
        return msgspec.structs.replace(manifest, remote={**manifest.remote, "environment": environment})

    made = machine("linear", change=change)
    written = actions(made, "jobs")["s3:PutObject"]
    assert {"arn:aws:s3:::files/data/LinearFlow/*", "arn:aws:s3:::cards/LinearFlow/*"} <= set(written)
    buckets = [one["Resource"] for one in made.resources.policies["jobs"]["Statement"] if "Condition" in one]
    assert buckets == [["arn:aws:s3:::bucket"], ["arn:aws:s3:::files"], ["arn:aws:s3:::cards"]]


def test_a_flow_that_follows_another_may_read_its_data(machine: Make) -> None:
    made = machine("decorated/on_finish")
    names = [one.event.split(".")[-2] for one in made.manifest.graph.triggers]
    read = next(one for one in made.resources.policies["jobs"]["Statement"] if one["Sid"] == "Given")
    assert [f"arn:aws:s3:::bucket/metaflow/{name}/*" for name in names] == read["Resource"][1:]
    assert read["Action"] == ["s3:GetObject"]


@pytest.mark.parametrize(
    ("sources", "secrets"),
    [
        (["aws-secrets-manager.db"], ["arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-??????"]),
        ([{"type": "aws-secrets-manager", "id": "arn:aws:secretsmanager:x:1:secret:a-b"}],
         ["arn:aws:secretsmanager:x:1:secret:a-b"]),
        ([{"type": "inline", "id": "test"}, "az-key-vault.x"], None),
    ],
)  # fmt: skip
def test_jobs_may_read_the_secrets_that_steps_name(
    machine: Make, sources: list[object], secrets: list[str] | None
) -> None:
    def change(manifest: Manifest) -> Manifest:
        replace = msgspec.structs.replace
        own = Decorator(name="secrets", attributes={"sources": sources})
        first, *others = manifest.graph.steps
        steps = (replace(first, decorators=(*first.decorators, own)), *others)
        return replace(manifest, graph=replace(manifest.graph, steps=steps))

    allowed = actions(machine("linear", change=change), "jobs")
    assert allowed.get("secretsmanager:GetSecretValue") == secrets


@pytest.mark.parametrize("options", [{}, {"batch_tags": {"team": "ml"}}])
def test_jobs_of_other_flows_can_be_ended_by_no_role(machine: Make, options: dict[str, Any]) -> None:
    made = machine("linear", **options)
    place = "arn:aws:batch:eu-west-1:123456789012:job/abc"
    for role in ("state_machine", "deployer"):
        authority = Authority()
        authority.add(role, [made.resources.policies[role]], {"Version": "2012-10-17", "Statement": []})
        for tags, allowed in (
            ({"aws:ResourceTag/metaflow-state-machine": "linear"}, True),
            ({"aws:ResourceTag/metaflow-state-machine": "other"}, False),
            ({"aws:ResourceTag/metaflow-state-machine": "linear2"}, False),
            ({"aws:ResourceTag/team": "linear"}, False),
            ({}, False),
        ):
            assert authority[role].allows(Request("batch:TerminateJob", place, tags)) == allowed, (role, tags)


def test_no_job_of_another_flow_can_be_given_the_tag_by_which_jobs_may_be_ended(machine: Make) -> None:
    authority = Authority()
    authority.add(
        "role", [machine("linear").resources.policies["state_machine"]], {"Version": "2012-10-17", "Statement": []}
    )
    own, other = {"aws:RequestTag/metaflow-state-machine": "linear"}, {"aws:RequestTag/metaflow-state-machine": "other"}
    for context, allowed in (
        (own, True),
        ({**own, "aws:ResourceTag/metaflow-state-machine": "linear"}, True),
        ({**own, "aws:ResourceTag/metaflow-state-machine": "other"}, False),
        (other, False),
        ({}, False),
    ):
        request = Request("batch:TagResource", "arn:aws:batch:eu-west-1:123456789012:job/abc", context)
        assert authority["role"].allows(request) == allowed, context


@pytest.mark.parametrize("flow", [*SHAPES, "decorated/on_finish"])
def test_every_job_has_the_tag_of_its_deployment(machine: Make, flow: str) -> None:
    made = machine(flow, change=without("ephemeral_storage"), settings=SETTINGS)
    machines = [json.loads(made.to_json()), *made.resources.state_machines.values()]
    submitted = [one["Arguments"] for one in submissions(machines)]
    assert submitted
    start = machines[0]["States"][machines[0]["StartAt"]]
    shared = {f"${name}": value for name, value in start.get("Assign", {}).items() if isinstance(value, dict)}
    for arguments in submitted:
        # An expression of JSONata has them, or the variable that it begins with.
        if isinstance(arguments, str) and "'Tags'" in arguments:
            tags = arguments.partition("'Tags':{")[2].partition("}")[0]
            assert f"'metaflow-state-machine':'{made.name}'" in tags, arguments
        elif isinstance(arguments, str):
            (variable,) = (one for one in shared if f"$merge([{one}," in arguments)
            assert shared[variable]["Tags"]["metaflow-state-machine"] == made.name, arguments
        else:
            assert arguments["Tags"]["metaflow-state-machine"] == made.name, arguments


def submissions(value: Any) -> Iterator[dict[str, Any]]:
    """Yield all states that submit a job."""
    if isinstance(value, dict):
        if "batch:submitJob" in str(value.get("Resource", "")):
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from submissions(one)


def test_metaflows_tags_are_given_to_jobs_if_the_configuration_asks_for_them(machine: Make) -> None:
    def change(manifest: Manifest) -> Manifest:
        owner = msgspec.structs.replace(manifest.deployment, owner="ann,(x)@example.org")
        return msgspec.structs.replace(manifest, deployment=owner, remote={**manifest.remote, "batch_emit_tags": True})

    states = machine("linear", change=change).definition["States"]
    assert states["start"]["Arguments"]["Tags"] == {
        "app": "metaflow", "metaflow.user": "annx@example.org", "metaflow.owner": "annx@example.org",
        "metaflow.flow_name": "LinearFlow", "metaflow.step_name": "start", "metaflow-state-machine": "linear",
        "metaflow.run_id": "{% 'sfn-'&$states.context.Execution.Name %}",
    }  # fmt: skip
    tags = states["middle"]["Arguments"].partition("'Tags':")[2].partition("}")[0]
    assert "'metaflow.step_name':'middle'" in tags
    assert "'metaflow.run_id':$run" in tags


@pytest.mark.parametrize("flow", [*SHAPES, *(one for one in DECORATED if one != "decorated/pods")])
def test_iam_would_take_every_policy(machine: Make, flow: str) -> None:
    made = machine(flow, change=without("ephemeral_storage"), settings=SETTINGS)
    authority = Authority()
    trust = made.trust_policies()
    assert set(made.resources.policies) - set(trust) == {"deployer"}
    for role, policy in made.resources.policies.items():
        authority.add(role, [policy], trust.get(role))


@pytest.mark.parametrize("flow", [*SHAPES, *(one for one in DECORATED if one != "decorated/pods")])
def test_iam_takes_the_deployers_policies_for_the_longest_name_too(machine: Make, flow: str) -> None:
    change = without("ephemeral_storage")
    short = machine(flow, change=change, settings=SETTINGS)
    made = machine(flow, change=change, settings=SETTINGS, deployment={"name": 80 * "n"})
    found = {name: one for name, one in made.resources.policies.items() if name not in made.trust_policies()}
    assert list(found) == ["deployer", "deployer_2"]
    Authority().add("deployer", found.values())
    assert [one["Sid"] for policy in found.values() for one in policy["Statement"]] == [
        one["Sid"] for one in short.resources.policies["deployer"]["Statement"]
    ]
    template = made.roles_template()
    policies = [one for one in template["Resources"].values() if one["Type"] == "AWS::IAM::ManagedPolicy"]
    assert len(policies) == 2
    assert {"DeployerPolicyArn", "DeployerPolicy2Arn"} <= set(template["Outputs"])


def without(attribute: str) -> Callable[[Manifest], Manifest]:
    """A change that takes an attribute of `@batch` away, which only Fargate knows."""

    def change(manifest: Manifest) -> Manifest:
        for step in manifest.graph.steps:
            for one in step.decorators:
                one.attributes.pop(attribute, None)
        return manifest

    return change


def test_the_template_makes_the_roles_that_are_printed(machine: Make) -> None:
    made = machine("nested_foreach", settings=AwsSettings())
    template = made.roles_template()
    text = json.dumps(template)
    assert json.loads(text) == template
    resources = template["Resources"]
    assert {name: one["Type"] for name, one in resources.items()} == {
        "MachineRole": "AWS::IAM::Role", "EventsRole": "AWS::IAM::Role", "JobsRole": "AWS::IAM::Role",
        "DeployerPolicy": "AWS::IAM::ManagedPolicy",
    }  # fmt: skip
    # Every placeholder is one that CloudFormation knows, and stands where it is substituted.
    known = {"AWS::Region", "AWS::AccountId", *(f"{name}.Arn" for name in resources)}
    assert set(re.findall(r"\$\{([^}]*)\}", text)) <= known
    for one in objects(template):
        assert all(key == "Fn::Sub" for key, value in one.items() if isinstance(value, str) and "${" in value)
    passed = [one for one in resources["DeployerPolicy"]["Properties"]["PolicyDocument"]["Statement"]
              if one["Action"] == ["iam:PassRole"]]  # fmt: skip
    assert [one["Resource"] for one in passed] == [
        [{"Fn::Sub": f"${{{name}.Arn}}"}] for name in ("MachineRole", "EventsRole", "JobsRole")
    ]
    assert template["Outputs"]["MachineRoleArn"]["Description"] == "METAFLOW_SFN_IAM_ROLE"


def objects(value: object) -> Iterator[dict[str, object]]:
    if isinstance(value, dict):
        yield value
        for one in value.values():
            yield from objects(one)
    elif isinstance(value, list):
        for one in value:
            yield from objects(one)


def test_a_service_assumes_its_role_for_this_account_only(machine: Make) -> None:
    trust = machine("linear").trust_policies()
    services = {role: one["Statement"][0]["Principal"]["Service"] for role, one in trust.items()}
    assert services == {
        "state_machine": ["states.amazonaws.com"],
        "events": ["events.amazonaws.com", "scheduler.amazonaws.com"],
        "jobs": ["ecs-tasks.amazonaws.com"],
    }
    conditions = [one["Statement"][0]["Condition"] for one in trust.values()]
    assert conditions == [{"StringEquals": {"aws:SourceAccount": "123456789012"}}] * 3


def test_a_distributed_map_may_start_its_own_children(machine: Make) -> None:
    allowed = actions(machine("nested_foreach"), "state_machine")
    assert allowed["states:StartExecution"] == ["arn:aws:states:eu-west-1:123456789012:stateMachine:nested-foreach"]
    # Of its children, too, whose names AWS gives.
    executions = [f"arn:aws:states:eu-west-1:123456789012:execution:nested-foreach{end}" for end in (":*", "/*")]
    assert allowed["states:DescribeExecution"] == allowed["states:StopExecution"] == executions
    assert "states:StartExecution" not in actions(machine("nested_foreach", distributed=False), "state_machine")


def test_events_may_start_the_machine_and_its_helpers(machine: Make) -> None:
    def change(manifest: Manifest) -> Manifest:
        replace = msgspec.structs.replace
        triggers = (EventTrigger(event="a"), EventTrigger(event="metaflow.Other.end", of_run=True))
        return replace(manifest, graph=replace(manifest.graph, triggers=triggers))

    made = machine("linear", change=change)
    started = actions(made, "events")["states:StartExecution"]
    assert [one.rpartition(":")[2] for one in started] == ["linear", "linear-events"]
    patterns = [json.loads(one["EventPattern"]) for one in made.resources.rules]
    assert patterns[0] == {"source": ["metaflow"], "detail-type": ["a"]}
    assert patterns[1]["detail"]["stateMachineArn"] == ["arn:aws:states:eu-west-1:123456789012:stateMachine:Other"]
    assert "s3:DeleteObject" in actions(made, "state_machine")
