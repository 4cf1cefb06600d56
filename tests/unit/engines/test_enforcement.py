"""What the layer before moto refuses: as AWS, and nothing that AWS would take."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.engines.aws.authority import Authority, Principal, Request, check_policy
from tests.engines.aws.permissions import Where, needed
from tests.engines.aws.quotas import Throttle, exceeded
from tests.support.aws_account import QUEUE, Account, aws_account

WHO = "arn:aws:iam::123456789012:role/one"
HERE = Where("123456789012", "us-east-1")
JOBS = "arn:aws:batch:us-east-1:123456789012"


def policy(*actions: str, resource: Any = "*", effect: str = "Allow", **condition: Any) -> dict[str, Any]:
    statement = {"Effect": effect, "Action": list(actions), "Resource": resource}
    if condition:
        statement["Condition"] = condition
    return {"Version": "2012-10-17", "Statement": [statement]}


def trust(*services: str) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Principal": {"Service": list(services)}, "Action": "sts:AssumeRole"}
    return {"Version": "2012-10-17", "Statement": [statement]}


@pytest.mark.parametrize(
    ("policies", "request_", "allowed"),
    [
        ((policy("s3:Get*"),), Request("s3:GetObject", "arn:aws:s3:::a/b"), True),
        ((policy("s3:get*"),), Request("S3:GetObject", "arn:aws:s3:::a/b"), True),
        ((policy("s3:GetObject", resource="arn:aws:s3:::a/b*"),), Request("s3:GetObject", "arn:aws:s3:::a/c"), False),
        ((policy("s3:GetObject", resource="arn:aws:s3:::a/?"),), Request("s3:GetObject", "arn:aws:s3:::a/bc"), False),
        ((policy("s3:GetObject", resource="arn:aws:s3:::a/[x]"),), Request("s3:GetObject", "arn:aws:s3:::a/x"), False),
        ((), Request("s3:GetObject"), False),
        ((policy("s3:*"), policy("s3:PutObject", effect="Deny")), Request("s3:PutObject"), False),
        ((policy("s3:*"), policy("s3:PutObject", effect="Deny")), Request("s3:GetObject"), True),
        ((policy("s3:*", StringEquals={"a:b": "x"}),), Request("s3:GetObject", context={"A:B": "x"}), True),
        ((policy("s3:*", StringEquals={"a:b": "x"}),), Request("s3:GetObject"), False),
        ((policy("s3:*", StringLikeIfExists={"a:b": "x*"}),), Request("s3:GetObject"), True),
        ((policy("s3:*", StringLikeIfExists={"a:b": "x*"}),), Request("s3:GetObject", context={"a:b": "y"}), False),
        ((policy("s3:*", Null={"a:b": "true"}),), Request("s3:GetObject", context={"a:b": "y"}), False),
        ((policy("s3:*", Null={"a:b": "true"}),), Request("s3:GetObject"), True),
    ],
    ids=range(14),
)
def test_policies_are_read_as_iam_reads_them(
    policies: tuple[dict[str, Any], ...], request_: Request, allowed: bool
) -> None:
    assert Principal(WHO, policies).allows(request_) is allowed


@pytest.mark.parametrize(
    "broken",
    [
        policy("GetObject"),
        policy("s3:GetObject", resource="bucket/key"),
        policy("s3:GetObject", resource=[]),
        {"Version": "2012-10-17", "Statement": []},
        {"Version": "2012-10-17", "Statement": [{"Sid": "a b", "Effect": "Allow", "Action": "s3:*", "Resource": "*"}]},
        {"Version": "2012-10-17", "Statement": [{**policy("s3:*")["Statement"][0], "Sid": "a"}] * 2},
    ],
    ids=range(6),
)
def test_a_policy_that_iam_refuses_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        check_policy(broken)


def test_the_length_of_policies_is_limited_for_users_and_for_roles() -> None:
    long = policy("s3:GetObject", resource=[f"arn:aws:s3:::bucket/{number:0200}" for number in range(30)])
    with pytest.raises(AssertionError, match="IAM takes 6144"):
        Authority().add(WHO, [long])
    Authority().add(WHO, [long], trust("ecs-tasks.amazonaws.com"))
    with pytest.raises(AssertionError, match="IAM takes 10240"):
        Authority().add(WHO, [long, long], trust("ecs-tasks.amazonaws.com"))


def test_an_authority_is_read_back_from_a_file(tmp_path: Path) -> None:
    authority = Authority()
    authority.add(WHO, [policy("s3:*")], trust("states.amazonaws.com"))
    authority.save(tmp_path / "authority.json")
    assert Authority.load(tmp_path / "authority.json").principals == authority.principals


def test_a_call_that_is_not_known_is_refused_by_name() -> None:
    with pytest.raises(AssertionError, match=r"batch\.CreateJobQueue is not known here"):
        needed("batch", "CreateJobQueue", {}, HERE)


@pytest.mark.parametrize(
    ("service", "operation", "given", "told"),
    [
        ("batch", "SubmitJob", {"parameters": {"a": "x" * 30 * 1024}}, "the submission has"),
        ("batch", "SubmitJob", {"containerOverrides": {"environment": [{"v": "x" * 8192}]}}, "Container Overrides"),
        (
            "batch",
            "SubmitJob",
            {"nodeOverrides": {"nodePropertyOverrides": [{"containerOverrides": {"command": ["x" * 8192]}}]}},
            "Container Overrides of a node",
        ),
        ("batch", "SubmitJob", {"tags": {f"k{n}": "v" for n in range(51)}}, "51 tags"),
        ("batch", "SubmitJob", {"tags": {"aws:x": "v"}}, "no tag"),
        ("batch", "SubmitJob", {"tags": {"a*": "v"}}, "character"),
        ("batch", "RegisterJobDefinition", {"containerProperties": {"command": ["x" * 24 * 1024]}}, "job definition"),
        ("stepfunctions", "CreateStateMachine", {"definition": "x" * (1024 * 1024 + 1)}, "takes 1048576"),
        ("stepfunctions", "StartExecution", {"input": "ü" * 131_073}, "takes 262144"),
        ("events", "PutEvents", {"Entries": [{"Detail": "x" * 262_144}]}, "takes 262144"),
    ],
    ids=range(10),
)
def test_what_is_over_a_quota_is_refused(service: str, operation: str, given: dict[str, Any], told: str) -> None:
    assert told in str(exceeded(service, operation, given))


def test_what_just_meets_a_quota_is_taken() -> None:
    assert exceeded("stepfunctions", "StartExecution", {"input": "x" * 262_144}) is None
    assert exceeded("stepfunctions", "UpdateStateMachine", {"definition": "x" * 1024 * 1024}) is None
    assert exceeded("batch", "SubmitJob", {"tags": {"k" * 128: "v" * 256}}) is None


def test_fifty_submissions_are_taken_in_any_second() -> None:
    now = [0.0]
    throttle = Throttle(clock=lambda: now[0])
    assert [throttle.takes() for _ in range(60)] == [True] * 50 + [False] * 10
    now[0] = 0.99
    assert not throttle.takes()
    now[0] = 1.0
    assert throttle.takes()
    assert throttle.refused == 11


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    with aws_account(tmp_path) as made:
        yield made


def refusal(call: Callable[..., Any], **given: Any) -> str:
    """What AWS says, "taken" if it takes the call."""
    try:
        call(**given)
    except ClientError as error:
        return f"{error.response['Error']['Code']}: {error.response['Error']['Message']}"
    return "taken"


CONTAINER = {
    "image": "x", "command": ["true"], "jobRoleArn": "arn:aws:iam::1:role/jobs",
    "resourceRequirements": [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "10"}],
}  # fmt: skip


def test_tags_are_set_when_something_is_made_only_by_who_may_tag(account: Account) -> None:
    authority, batch = account.enforcement.authority, account.client("batch", WHO)
    authority.add("arn:aws:iam::1:role/jobs", [policy("s3:*")], trust("ecs-tasks.amazonaws.com"))
    definition = {"jobDefinitionName": "d", "type": "container", "containerProperties": CONTAINER, "tags": {"a": "b"}}
    rights = ["batch:RegisterJobDefinition"]
    authority.add(WHO, [policy(*rights)])
    assert "batch:TagResource" in refusal(batch.register_job_definition, **definition)
    authority.add(WHO, [policy(*rights, "batch:TagResource")])
    assert "iam:PassRole" in refusal(batch.register_job_definition, **definition)
    authority.add(WHO, [policy(*rights, "batch:TagResource", "iam:PassRole")])
    assert refusal(batch.register_job_definition, **definition) == "taken"
    job = {"jobName": "job", "jobQueue": QUEUE, "jobDefinition": "d", "tags": {"a": "b"}}
    authority.add(WHO, [policy("batch:SubmitJob")])
    assert "batch:TagResource" in refusal(batch.submit_job, **job)
    del job["tags"]
    assert refusal(batch.submit_job, **job) == "taken"


def test_a_job_is_submitted_on_active_definitions_only_and_at_most_fifty_a_second(account: Account) -> None:
    own = account.client("batch")
    account.enforcement.authority.add(WHO, [policy("batch:SubmitJob")])
    batch = account.client("batch", WHO)
    made = own.register_job_definition(jobDefinitionName="d", type="container", containerProperties=CONTAINER)
    job = {"jobName": "job", "jobQueue": QUEUE}
    account.enforcement.throttle = Throttle(per_second=1, clock=lambda: 0)
    assert refusal(batch.submit_job, **job, jobDefinition="d") == "taken"
    assert refusal(batch.submit_job, **job, jobDefinition="d").startswith("TooManyRequestsException")
    account.enforcement.throttle = None
    own.deregister_job_definition(jobDefinition=made["jobDefinitionArn"])
    for name in ("d", "d:1", made["jobDefinitionArn"], "absent"):
        assert refusal(batch.submit_job, **job, jobDefinition=name).endswith("is not ACTIVE")


@pytest.mark.parametrize("service", ["states", "events", "scheduler"])
def test_a_role_is_passed_only_to_a_service_that_it_trusts(account: Account, service: str) -> None:
    authority, role = account.enforcement.authority, "arn:aws:iam::123456789012:role/passed"
    authority.add(WHO, [policy("iam:PassRole", "states:*", "events:*", "scheduler:*")])
    definition = json.dumps({"StartAt": "a", "States": {"a": {"Type": "Succeed"}}})
    account.client("events").put_rule(Name="r", EventPattern='{"source": ["x"]}')
    calls = {
        "states": (account.client("stepfunctions", WHO).create_state_machine,
                   {"name": "m", "definition": definition, "roleArn": role}),
        "events": (account.client("events", WHO).put_targets,
                   {"Rule": "r", "Targets": [{"Id": "1", "Arn": f"{JOBS}:x", "RoleArn": role}]}),
        "scheduler": (account.client("scheduler", WHO).create_schedule,
                      {"Name": "s", "ScheduleExpression": "rate(1 day)", "FlexibleTimeWindow": {"Mode": "OFF"},
                       "Target": {"Arn": f"{JOBS}:x", "RoleArn": role}}),
    }  # fmt: skip
    call, given = calls[service]
    others = [f"{one}.amazonaws.com" for one in calls if one != service]
    authority.add(role, [policy("states:*")], trust(*others))
    assert f"{service}.amazonaws.com is not authorized to assume" in refusal(call, **given)
    authority.add(role, [policy("states:*")], trust(f"{service}.amazonaws.com"))
    assert refusal(call, **given) == "taken"


def test_a_machine_that_waits_for_jobs_needs_a_role_that_makes_the_rule(account: Account) -> None:
    authority, role = account.enforcement.authority, "arn:aws:iam::123456789012:role/machine"
    authority.add(WHO, [policy("states:*", "iam:PassRole")])
    state = {"Type": "Task", "Resource": "arn:aws:states:::batch:submitJob.sync", "End": True, "Arguments": {
        "JobName": "j", "JobQueue": "q", "JobDefinition": "d"}}  # fmt: skip
    definition = json.dumps({"QueryLanguage": "JSONata", "StartAt": "a", "States": {"a": state}})
    given = {"name": "m", "definition": definition, "roleArn": role}
    create = account.client("stepfunctions", WHO).create_state_machine
    authority.add(role, [policy("batch:SubmitJob")], trust("states.amazonaws.com"))
    assert "events:PutRule" in refusal(create, **given)
    rule = "arn:aws:events:us-east-1:123456789012:rule/StepFunctionsGetEventsForBatchJobsRule"
    listen = policy("events:PutRule", "events:PutTargets", "events:DescribeRule", resource=rule)
    authority.add(role, [listen], trust("states.amazonaws.com"))
    assert refusal(create, **given) == "taken"


def test_an_object_that_is_absent_is_forbidden_to_who_may_not_list(account: Account) -> None:
    authority, s3 = account.enforcement.authority, account.client("s3", WHO)
    get = policy("s3:GetObject")
    for policies, code in (
        ([get], "AccessDenied"),
        # The request for one object has no prefix, which such a condition needs.
        ([get, policy("s3:ListBucket", StringLike={"s3:prefix": ["a*"]})], "AccessDenied"),
        ([get, policy("s3:ListBucket", StringLikeIfExists={"s3:prefix": ["a*"]})], "NoSuchKey"),
        ([get, policy("s3:ListBucket")], "NoSuchKey"),
    ):
        authority.add(WHO, policies)
        assert refusal(s3.get_object, Bucket="bucket", Key="absent").startswith(code)
