"""A deployment with exactly the roles of Metaflow's reference infrastructure, and with roles that lack something."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.support.aws_account import DEPLOYER, SETTINGS, STATES, Account, Job, job_roles, refusing
from tests.support.template_roles import grant_template

from metaflow_adapters.step_functions import FlowMachine
from metaflow_adapters.step_functions.aws.client import AwsError, NotPermittedError, NotTrustedError
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.graph.model import EventTrigger, ExitHook, Schedule

There = Callable[..., FlowMachine]

DAILY = Schedule(cron="0 9 * * *")


def changed(**fields: Any) -> Callable[[Manifest], Manifest]:
    def change(manifest: Manifest) -> Manifest:
        return msgspec.structs.replace(manifest, graph=msgspec.structs.replace(manifest.graph, **fields))

    return change


def deploy(account: Account, made: FlowMachine) -> str:
    """Deploy a flow by the template's roles."""
    account.flow = made.manifest.graph.name
    grant_template(account.enforcement.authority, job_roles(made))
    return made.deploy(account.aws())


def definition(account: Account, name: str) -> dict[str, Any]:
    found = account.client("stepfunctions").describe_state_machine(stateMachineArn=f"{STATES}:stateMachine:{name}")
    return dict(json.loads(found["definition"]))


def rules(account: Account) -> dict[str, str]:
    return {one["Name"]: one["State"] for one in account.client("events").list_rules()["Rules"]}


def splitting(step: str, splits: int) -> Callable[[Job], None]:
    def task(job: Job) -> None:
        assert job.place is not None
        if job.place.step == step:
            job.tell(splits)

    return task


def test_a_linear_flow_is_deployed_runs_and_is_deployed_again(account: Account, there: There) -> None:
    for made in (there("linear"), there("linear", image="image:2")):
        deploy(account, made)
        assert account.ended(account.start(made))["status"] == "SUCCEEDED"
    jobs = [one for one in account.enforcement.given if "jobName" in one]
    # Only a definition with its revision may be submitted, and no tag may be set.
    assert all(one["jobDefinition"].endswith(":1") and "tags" not in one for one in jobs)
    assert len(jobs) == 6
    assert there("linear", image="image:2").diff(account.aws()) == ""


def test_a_foreach_of_several_steps_runs_inline_where_the_role_may_start_no_children(
    account: Account, there: There, caplog: pytest.LogCaptureFixture
) -> None:
    made = there("nested_foreach")
    assert '"DISTRIBUTED"' in made.to_json()
    account.task = splitting(made.manifest.graph.start, 2)
    deploy(account, made)
    assert "DISTRIBUTED" not in json.dumps(definition(account, made.name))
    assert "states:StartExecution" in caplog.text


def test_a_rule_that_metaflows_own_deployer_has_made_starts_each_run_once(account: Account, there: There) -> None:
    made = there("single_step", change=changed(schedule=DAILY))
    deploy(account, made)
    events = account.client("events")
    # Its target has the name of the rule.
    (ours,) = events.list_targets_by_rule(Rule="single-step")["Targets"]
    assert ours["Id"] == "single-step"
    events.put_targets(Rule="single-step", Targets=[{**ours, "Input": '{"Parameters": "{}"}'}])
    deploy(account, made)
    assert len(events.list_targets_by_rule(Rule="single-step")["Targets"]) == 1


def test_a_schedule_in_utc_is_a_rule_where_the_scheduler_may_not_assume_the_role(
    account: Account, there: There
) -> None:
    made = there("single_step", change=changed(schedule=DAILY))
    deploy(account, made)
    events = account.client("events")
    rule = events.describe_rule(Name="single-step")
    assert (rule["ScheduleExpression"], rule["State"]) == ("cron(0 9 * * ? *)", "ENABLED")
    (target,) = events.list_targets_by_rule(Rule="single-step")["Targets"]
    assert target["Arn"] == made.arn
    assert target["RoleArn"] == SETTINGS.events_role
    assert account.client("scheduler").list_schedules()["Schedules"] == []
    deploy(account, there("single_step", image="image:2"))
    assert rules(account) == {"single-step": "DISABLED"}


@pytest.mark.parametrize("is_new", [True, False])
def test_a_schedule_with_a_timezone_is_refused_before_anything_changes(
    account: Account, there: There, *, is_new: bool
) -> None:
    old = there("single_step")
    if not is_new:
        deploy(account, old)
    before = definition(account, "single-step") if not is_new else None
    made = there("single_step", change=changed(schedule=Schedule(cron="0 9 * * *", timezone="Asia/Tokyo")),
                 image="image:2")  # fmt: skip
    account.enforcement.calls.clear()
    with pytest.raises(NotPermittedError, match=r'statement.*"Action": "scheduler:CreateSchedule"'):
        deploy(account, made)
    operations = {operation for arn, _, operation in account.enforcement.calls if arn == DEPLOYER}
    assert not operations & {"CreateStateMachine", "UpdateStateMachine", "PutRule"}
    if not is_new:
        assert definition(account, "single-step") == before


def test_events_start_runs_by_rules_whose_pattern_names_no_source(
    account: Account, there: There, caplog: pytest.LogCaptureFixture
) -> None:
    made = there("single_step", change=changed(
        triggers=(EventTrigger(event="new_data"),), exit_hooks=(ExitHook(function="bye", on_success=True),)
    ))  # fmt: skip
    deploy(account, made)
    events = account.client("events")
    pattern = json.loads(events.describe_rule(Name="single-step-event-0")["EventPattern"])
    assert pattern == {"detail-type": ["new_data"]}
    assert "takes events from any source" in caplog.text
    assert "events:PutRule" in caplog.text
    events.put_events(Entries=[{"Source": "metaflow", "DetailType": "new_data", "Detail": "{}"}])
    account.wait(lambda: account.executions("single-step"))
    account.wait(lambda: account.executions("single-step-after"))
    deploy(account, there("single_step", image="image:2"))
    assert set(rules(account).values()) == {"DISABLED"}


def test_what_the_role_of_runs_is_not_known_to_permit_is_named(
    account: Account, there: There, caplog: pytest.LogCaptureFixture
) -> None:
    two = (EventTrigger(event="one"), EventTrigger(event="two"))
    deploy(account, there("single_step", change=changed(triggers=two), batch_tags={"team": "ml"}))
    told = next(one for one in caplog.messages if "cannot look into the role" in one)
    statements = json.loads(told.partition("policy: ")[2])
    assert {action for one in statements for action in one["Action"]} == {"batch:TagResource", "states:StartExecution"}


def test_clean_up_that_is_not_permitted_is_a_warning(
    account: Account, there: There, caplog: pytest.LogCaptureFixture
) -> None:
    hooked = changed(exit_hooks=(ExitHook(function="bye", on_success=True),))
    deploy(account, there("single_step", change=hooked))
    plain = there("single_step", image="image:2")
    with caplog.at_level(logging.WARNING):
        deploy(account, plain)
    assert any("states:DeleteStateMachine" in one for one in caplog.messages)
    assert account.ended(account.start(plain))["status"] == "SUCCEEDED"
    assert account.executions("single-step-after") == []


def refusal_of(account: Account, made: FlowMachine) -> str | None:
    try:
        deploy(account, made)
    except AwsError as problem:
        return str(problem)
    return None


def test_whatever_call_is_refused_the_deployed_flow_runs_as_before(account: Account, there: There) -> None:
    change = changed(schedule=DAILY, triggers=(EventTrigger(event="one"),))
    old = there("single_step", change=change)
    deploy(account, old)
    before = definition(account, "single-step")
    refusals: set[str] = set()
    for number in range(1, 60):
        # Another one each time, for what is registered once stays.
        new = there("single_step", change=change, image=f"image:{number}")
        account.enforcement.interrupt, refused = refusing(number)
        told = refusal_of(account, new)
        account.enforcement.interrupt = None
        if not refused:
            break
        if told is None:
            # It was not needed: what it is for is left out, or left behind.
            deploy(account, old)
        else:
            refusals |= set(refused)
            assert refused[0] in told
            assert definition(account, "single-step") == before
        assert set(rules(account).values()) == {"ENABLED"}
        submitted = {one["Arguments"]["JobDefinition"] for one in definition(account, "single-step")["States"].values()
                     if "JobDefinition" in one.get("Arguments", {})}  # fmt: skip
        active = account.client("batch").describe_job_definitions(status="ACTIVE")["jobDefinitions"]
        assert submitted <= {f"{one['jobDefinitionName']}:{one['revision']}" for one in active}
    assert {"RegisterJobDefinition", "UpdateStateMachine", "PutRule", "PutTargets"} <= refusals
    assert account.ended(account.start(new))["status"] == "SUCCEEDED"


@pytest.mark.parametrize(
    ("lacking", "options", "told"),
    [
        ("Submit", {}, "batch:SubmitJob"),
        ("Listen", {}, "events:PutRule"),
        ("Start", {"change": changed(triggers=(EventTrigger(event="one"), EventTrigger(event="two")))},
         "states:StartExecution"),
        ("Tag", {"batch_tags": {"team": "ml"}}, "batch:TagResource"),
        ("Children", {"flow": "nested_foreach", "distributed": True}, "states:StartExecution"),
    ],
)  # fmt: skip
def test_what_a_role_is_known_to_lack_is_refused_with_the_statement_before_anything_is_called(
    account: Account, there: There, lacking: str, options: dict[str, Any], told: str
) -> None:
    options = {**options}
    made = there(options.pop("flow", "single_step"), **options)
    account.grant(made)
    role = str(SETTINGS.machine_role)
    policy = made.resources.policies["state_machine"]
    left = {**policy, "Statement": [one for one in policy["Statement"] if one["Sid"] != lacking]}
    account.enforcement.authority.add(role, [left], made.trust_policies()["state_machine"])
    with pytest.raises(NotPermittedError) as refused:
        made.deploy(account.aws())
    statements = json.loads(str(refused.value).partition("Add to its policy: ")[2])
    assert any(told in one["Action"] for one in statements)
    assert {service for _, service, _ in account.enforcement.calls} == {"iam"}


@pytest.mark.parametrize(("lacking", "options"), [("Tag", {}), ("Children", {"flow": "nested_foreach"})])
def test_what_nobody_has_asked_for_is_left_out_where_the_role_does_not_permit_it(
    account: Account, there: There, lacking: str, options: dict[str, Any]
) -> None:
    made = there(options.get("flow", "single_step"))
    account.grant(made)
    policy = made.resources.policies["state_machine"]
    left = {**policy, "Statement": [one for one in policy["Statement"] if one["Sid"] != lacking]}
    role = str(SETTINGS.machine_role)
    account.enforcement.authority.add(role, [left], made.trust_policies()["state_machine"])
    made.deploy(account.aws())
    text = json.dumps(definition(account, made.name))
    assert ('"Tags"' not in text) == (lacking == "Tag")
    assert "DISTRIBUTED" not in text


@pytest.mark.parametrize(("role", "service"), [("machine_role", "states"), ("events_role", "events")])
def test_a_role_that_is_known_not_to_trust_its_service_is_refused_with_the_statement(
    account: Account, there: There, role: str, service: str
) -> None:
    made = there("single_step", change=changed(triggers=(EventTrigger(event="one"),)))
    account.grant(made)
    authority, arn = account.enforcement.authority, str(getattr(SETTINGS, role))
    trust = {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ]}  # fmt: skip
    authority.add(arn, authority[arn].policies, trust)
    with pytest.raises(NotTrustedError, match=rf'trust policy of {arn}: .*"Service": "{service}.amazonaws.com"'):
        made.deploy(account.aws())
    assert {name for _, name, _ in account.enforcement.calls} == {"iam"}
