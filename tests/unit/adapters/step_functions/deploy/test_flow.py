"""What a deployment makes, changes and leaves behind, with the deployer's printed policy and nothing beyond it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from tests.support.aws_account import ROLES, SETTINGS, STATES, Account, Job, refusing

from metaflow_adapters.step_functions import FlowMachine
from metaflow_adapters.step_functions.aws.client import AwsError
from metaflow_adapters.step_functions.aws.secrets import save_secret
from metaflow_adapters.step_functions.runs.runs import Caller, SfnRuns
from metaflow_orchestration.documents.manifest import Manifest, Notifications
from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.model import EventTrigger, ExitHook, Schedule

There = Callable[..., FlowMachine]
ANN = Caller(user="ann")


def changed(**fields: Any) -> Callable[[Manifest], Manifest]:
    def change(manifest: Manifest) -> Manifest:
        return msgspec.structs.replace(manifest, graph=msgspec.structs.replace(manifest.graph, **fields))

    return change


EVERYTHING = changed(
    schedule=Schedule(cron="0 9 * * *", timezone="Asia/Tokyo"),
    triggers=(EventTrigger(event="one"), EventTrigger(event="two")),
    trigger_reset=Schedule(cron="0 0 * * *"),
    exit_hooks=(ExitHook(function="bye", on_success=True),),
)


def everything(account: Account) -> dict[str, list[str]]:
    """Whatever a deployment may have made, by name."""
    batch = account.client("batch").describe_job_definitions(status="ACTIVE")["jobDefinitions"]
    machines = account.client("stepfunctions").list_state_machines()["stateMachines"]
    return {
        "machines": sorted(one["name"] for one in machines),
        "definitions": sorted(one["jobDefinitionName"] for one in batch),
        "rules": sorted(one["Name"] for one in account.client("events").list_rules()["Rules"]),
        "schedules": sorted(one["Name"] for one in account.client("scheduler").list_schedules()["Schedules"]),
        "secrets": sorted(one["Name"] for one in account.client("secretsmanager").list_secrets()["SecretList"]),
    }


def deployed(account: Account, name: str) -> dict[str, Any]:
    arn = f"{STATES}:stateMachine:{name}"
    found: dict[str, Any] = account.client("stepfunctions").describe_state_machine(stateMachineArn=arn)
    return found


def test_a_deployment_makes_what_the_flow_needs_and_delete_takes_all_of_it_away(account: Account, there: There) -> None:
    before = everything(account)
    made = there("linear", change=EVERYTHING)
    account.deploy(made)
    save_secret(account.aws(), "linear", {"SLACK": "https://example.org"})
    assert everything(account) == {
        "machines": ["linear", "linear-after", "linear-events"],
        "definitions": [one["jobDefinitionName"] for one in made.resources.job_definitions],
        "rules": ["linear-after", "linear-event-0", "linear-event-1"],
        "schedules": ["linear", "linear-reset"],
        "secrets": ["linear-notify"],
    }
    schedule = account.client("scheduler").get_schedule(Name="linear")
    assert (schedule["ScheduleExpressionTimezone"], schedule["State"]) == ("Asia/Tokyo", "ENABLED")
    assert {deployed(account, name)["roleArn"] for name in ("linear", "linear-after")} == {SETTINGS.machine_role}
    SfnRuns(account.aws(), "linear", "LinearFlow").delete(ANN)
    assert everything(account) == before


def test_what_a_flow_no_longer_has_goes_with_its_next_deployment(account: Account, there: There) -> None:
    account.deploy(there("linear", change=EVERYTHING))
    plain = there("linear", image="image:2")
    # The role that may start runs stays; so does who deployed.
    account.deploy(plain)
    # The job definitions of the version before go one deployment later: a run may have begun with them just now.
    account.deploy(plain)
    assert everything(account) == {
        "machines": ["linear"],
        "definitions": [one["jobDefinitionName"] for one in plain.resources.job_definitions],
        "rules": [],
        "schedules": [],
        "secrets": [],
    }


def test_rules_and_schedules_of_other_deployments_stay(account: Account, there: There) -> None:
    other = there("linear", change=EVERYTHING, deployment={"name": "linear-event-0"})
    account.deploy(other)
    theirs = everything(account)
    account.deploy(there("linear", change=EVERYTHING))
    account.deploy(there("linear"))
    left = everything(account)
    assert {key: sorted(set(left[key]) - set(theirs[key])) for key in left} == {
        "machines": ["linear"],
        "definitions": sorted(set(left["definitions"]) - set(theirs["definitions"])),
        "rules": [],
        "schedules": [],
        "secrets": [],
    }
    assert all(set(theirs[key]) <= set(left[key]) for key in theirs)


def test_a_deployment_that_changes_nothing_registers_nothing(account: Account, there: There) -> None:
    made = there("linear", change=EVERYTHING)
    account.deploy(made)
    account.enforcement.calls.clear()
    account.deploy(made)
    operations = [operation for _, _, operation in account.enforcement.calls]
    assert "RegisterJobDefinition" not in operations
    assert "CreateStateMachine" not in operations
    assert operations.count("UpdateSchedule") == 2
    assert made.diff(account.aws()) == ""


def names_of(*machines: FlowMachine) -> list[str]:
    return sorted(one["jobDefinitionName"] for made in machines for one in made.resources.job_definitions)


@pytest.mark.parametrize("ended", [False, True])
def test_definitions_that_a_running_execution_uses_stay_until_it_has_ended(
    account: Account, there: There, *, ended: bool
) -> None:
    old, new, newest = (there("linear", image=f"image:{number}") for number in range(3))
    begun, over = threading.Event(), threading.Event()

    def task(job: Job) -> None:
        begun.set()
        over.wait(20)

    account.task = task
    account.deploy(old)
    arn = account.start(old)
    assert begun.wait(10)
    if ended:
        over.set()
        account.ended(arn)
    account.deploy(new)
    assert everything(account)["definitions"] == names_of(old, new)
    account.deploy(newest)
    assert everything(account)["definitions"] == (names_of(new, newest) if ended else names_of(old, new, newest))
    over.set()
    # It could not go on if a definition of its next steps were inactive.
    assert account.ended(arn)["status"] == "SUCCEEDED"


def test_definitions_that_a_failed_execution_would_be_redriven_with_stay_for_fourteen_days(
    account: Account, there: There
) -> None:
    versions = [there("linear", image=f"image:{number}") for number in range(4)]
    account.task = lambda job: 1
    account.deploy(versions[0])
    failed = account.start(versions[0])
    assert account.ended(failed)["status"] == "FAILED"
    account.task = lambda job: None
    for number in (1, 2):
        account.deploy(versions[number])
        assert everything(account)["definitions"] == names_of(*versions[: number + 1])
    SfnRuns(account.aws(), "linear", "LinearFlow").redrive(f"sfn-{failed.rpartition(':')[2]}", ANN)
    account.wait(lambda: account.client("stepfunctions").describe_execution(executionArn=failed)["status"] != "FAILED")
    assert account.ended(failed)["status"] == "SUCCEEDED"
    account.deploy(versions[3])
    assert everything(account)["definitions"] == names_of(*versions[2:])


def test_two_weeks_after_its_failure_an_execution_keeps_no_definition(
    account: Account, there: There, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = [there("linear", image=f"image:{number}") for number in range(3)]
    account.task = lambda job: 1
    account.deploy(versions[0])
    account.ended(account.start(versions[0]))
    monkeypatch.setattr("metaflow_adapters.step_functions.deploy.tidy.REDRIVABLE", -timedelta(days=1))
    account.deploy(versions[1])
    account.deploy(versions[2])
    assert everything(account)["definitions"] == names_of(*versions[1:])


def test_an_account_is_listed_once_for_a_deployment(account: Account, there: There) -> None:
    for image in ("image:1", "image:2"):
        account.enforcement.calls.clear()
        account.deploy(there("linear", change=EVERYTHING, image=image))
        operations = [operation for _, _, operation in account.enforcement.calls]
        assert operations.count("DescribeJobDefinitions") == 1
        assert "ListStateMachines" not in operations


def test_a_submission_on_an_inactive_definition_is_refused(account: Account, there: There) -> None:
    made = there("linear")
    account.deploy(made)
    batch = account.client("batch")
    for one in batch.describe_job_definitions(status="ACTIVE")["jobDefinitions"]:
        batch.deregister_job_definition(jobDefinition=one["jobDefinitionArn"])
    found = account.ended(account.start(made))
    assert found["status"] == "FAILED"
    assert "not ACTIVE" in found["cause"]


def test_whatever_call_is_refused_the_deployed_flow_goes_on_running(account: Account, there: There) -> None:
    # Without what gathers events: the more calls, the longer the test.
    change = changed(
        schedule=Schedule(cron="0 9 * * *"),
        triggers=(EventTrigger(event="one"),),
        exit_hooks=(ExitHook(function="bye", on_success=True),),
    )
    versions = [there("single_step", change=change)] * 2
    account.deploy(versions[0])
    refusals: list[str] = []
    for number in range(1, 60):
        # Another one each time, for what is registered once stays.
        versions[1] = there("single_step", change=change, image=f"image:{number}")
        account.enforcement.interrupt, refused = refusing(number)
        told = refusal_of(account, versions[1])
        account.enforcement.interrupt = None
        if not refused:
            break
        definition = json.loads(deployed(account, "single-step")["definition"])
        if told is None:
            # It was not needed: what it is for is left out, or left behind.
            account.deploy(versions[0])
        else:
            refusals += refused
            assert refused[0] in told
            assert definition == versions[0].definition
            assert account.client("scheduler").get_schedule(Name="single-step")["State"] == "ENABLED"
        used = {one["JobDefinition"].partition(":")[0] for one in arguments(definition) if "JobDefinition" in one}
        assert used <= set(everything(account)["definitions"])
    assert {"RegisterJobDefinition", "UpdateStateMachine", "PutTargets"} <= set(refusals)
    assert versions[1].diff(account.aws()) == ""
    assert account.ended(account.start(versions[1]))["status"] == "SUCCEEDED"


def refusal_of(account: Account, made: FlowMachine) -> str | None:
    """What a deployment complains of, None if it succeeds."""
    try:
        account.deploy(made)
    except AwsError as problem:
        return str(problem)
    return None


def arguments(definition: dict[str, Any]) -> list[dict[str, Any]]:
    return [state["Arguments"] for state in definition["States"].values() if "Arguments" in state]


@pytest.mark.parametrize("role", ["state_machine", "events"])
def test_a_role_that_its_service_may_not_assume_is_named_before_the_deployed_flow_changes(
    account: Account, there: There, role: str
) -> None:
    old, new = there("single_step"), there("single_step", change=EVERYTHING, image="image:2")
    account.deploy(old)
    account.grant(new)
    arn = str(ROLES[role])
    authority = account.enforcement.authority
    wrong = {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"Service": ["lambda.amazonaws.com"]}, "Action": "sts:AssumeRole"},
    ]}  # fmt: skip
    authority.add(arn, authority[arn].policies, wrong)
    with pytest.raises(AwsError, match=f"may not assume the role {arn}"):
        new.deploy(account.aws())
    assert json.loads(deployed(account, "single-step")["definition"]) == old.definition


def test_a_rule_that_eventbridge_does_not_take_is_an_error(
    account: Account, there: There, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = there("single_step", change=changed(triggers=(EventTrigger(event="one"),)))
    account.grant(made)
    aws = account.aws()
    failed = {"FailedEntryCount": 1, "FailedEntries": [{"ErrorCode": "LimitExceeded"}]}
    monkeypatch.setattr(aws.events, "put_targets", lambda **_: failed)
    with pytest.raises(InvalidOptionError, match=r"target of the rule single-step-event-0: .*LimitExceeded"):
        made.deploy(aws)


@pytest.mark.parametrize(
    ("settings", "options", "told"),
    [
        ({"machine_role": None}, {}, "METAFLOW_SFN_IAM_ROLE"),
        ({"events_role": None}, {"change": EVERYTHING}, "METAFLOW_EVENTS_SFN_ACCESS_IAM_ROLE"),
        ({"log_group": None}, {"log_history": True}, "METAFLOW_SFN_EXECUTION_LOG_GROUP_ARN"),
        ({"region": None}, {}, "AWS_DEFAULT_REGION"),
    ],
)
def test_a_setting_that_is_missing_is_named_before_anything_is_made(
    account: Account, there: There, settings: dict[str, Any], options: dict[str, Any], told: str
) -> None:
    import dataclasses

    made = there("single_step", settings=dataclasses.replace(SETTINGS, **settings), **options)
    with pytest.raises(InvalidOptionError, match=told):
        made.deploy(account.aws())
    assert account.enforcement.calls == []


def test_the_history_of_runs_goes_to_the_log_group_if_asked_for(account: Account, there: There) -> None:
    account.deploy(there("single_step", log_history=True))
    logging = deployed(account, "single-step")["loggingConfiguration"]
    assert (logging["level"], logging["includeExecutionData"]) == ("ALL", True)
    assert logging["destinations"] == [{"cloudWatchLogsLogGroup": {"logGroupArn": SETTINGS.log_group}}]
    account.deploy(there("single_step"))
    assert deployed(account, "single-step")["loggingConfiguration"]["level"] == "OFF"


def test_somebody_who_was_faster_with_a_new_machine_is_followed(
    account: Account, there: There, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = there("single_step"), there("single_step", image="image:2")
    account.deploy(old)
    aws = account.aws()
    find, answers = aws.find_machine, iter([None])
    monkeypatch.setattr(aws, "find_machine", lambda *given: next(answers, find(*given)))
    new.deploy(aws)
    assert json.loads(deployed(account, "single-step")["definition"]) == new.definition


def test_the_difference_shows_what_a_deployment_would_change(account: Account, there: There) -> None:
    made = there("linear")
    account.grant(made)
    assert made.diff(account.aws()).startswith("--- linear on AWS")
    account.deploy(made)
    text = there("linear", deployment={"workflow_timeout": 60}).diff(account.aws())
    assert '+ "TimeoutSeconds": 60,' in text


def test_the_document_of_a_long_flow_is_uploaded_before_its_jobs_can_need_it(
    account: Account, there: There, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metaflow_adapters.step_functions.emit.job_definitions.MAX_DEFINITION_BYTES", 20)
    made = there("linear")
    account.deploy(made)
    ((url, content),) = made.resources.uploads.items()
    bucket, _, key = url.removeprefix("s3://").partition("/")
    # A job may read it by its own role.
    role = "arn:aws:iam::123:role/jobs"
    assert account.client("s3", role).get_object(Bucket=bucket, Key=key)["Body"].read() == content
    first = next(n for n, one in enumerate(account.enforcement.calls) if one[2] == "PutObject")
    assert first < next(n for n, one in enumerate(account.enforcement.calls) if one[2] == "CreateStateMachine")


def test_the_job_that_tells_endpoints_has_their_keys_by_reference_only(account: Account, there: There) -> None:
    secret = "arn:aws:secretsmanager:us-east-1:123456789012:secret:mine-AbCdEf"
    notifications = Notifications(on_error=True, on_success=True, slack=secret, pager_duty=secret)
    account.deploy(there("single_step", deployment={"notifications": notifications}))
    found = account.client("batch").describe_job_definitions(status="ACTIVE")["jobDefinitions"]
    own = next(one for one in found if one["jobDefinitionName"].endswith("-after"))["containerProperties"]
    assert own["executionRoleArn"] == SETTINGS.execution_role
    assert own["secrets"] == [
        {"name": "METAFLOW_NOTIFY_SLACK", "valueFrom": f"{secret}:SLACK::"},
        {"name": "METAFLOW_NOTIFY_PAGER_DUTY", "valueFrom": f"{secret}:PAGER_DUTY::"},
    ]
