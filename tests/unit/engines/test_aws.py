"""The mends of moto's Step Functions, Batch and EventBridge: what AWS does, and what it refuses."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.engines.aws.enforcement import ACCOUNT
from tests.engines.aws.shared import EVERYTHING
from tests.support.object_store import BUCKET, trust
from tests.support.patience import wait_until
from tests.support.step_functions import STATES, StepFunctions

pytestmark = pytest.mark.subprocess

END = {"Type": "Pass", "End": True}


def machine(**states: Any) -> dict[str, Any]:
    return {"QueryLanguage": "JSONata", "StartAt": next(iter(states)), "States": states}


def made(aws: StepFunctions, definition: dict[str, Any], role: str | None = None) -> str:
    role = role or aws.environment["METAFLOW_SFN_IAM_ROLE"]
    name = f"probe-{uuid.uuid4().hex[:8]}"
    aws.client("stepfunctions").create_state_machine(name=name, definition=json.dumps(definition), roleArn=role)
    return name


def run(aws: StepFunctions, definition: dict[str, Any], given: Any = None, expect: str = "SUCCEEDED") -> dict[str, Any]:
    return aws.start(made(aws, definition), "Probe", given).wait(timeout=60, expect=expect)


def output(aws: StepFunctions, definition: dict[str, Any], given: Any = None) -> Any:
    return json.loads(run(aws, definition, given)["output"])


def test_a_variable_is_data_whatever_it_holds(step_functions: StepFunctions) -> None:
    text = """it's "quoted" {% $x %} \\n $states.input"""
    definition = machine(
        a={"Type": "Pass", "Assign": {"v": "{% $states.input.text %}"}, "Next": "b"},
        b={"Type": "Pass", "Output": {"same": "{% $v %}", "parsed": "{% $parse('{\"a\":1}').a %}"}, "End": True},
    )
    assert output(step_functions, definition, {"text": text}) == {"same": text, "parsed": 1}


def test_functions_of_aws_are_there(step_functions: StepFunctions) -> None:
    expressions = {"hash": "{% $hash('a','SHA-256') %}", "uuid": "{% $length($uuid()) %}"}
    found = output(step_functions, machine(a={"Type": "Pass", "Output": expressions, "End": True}))
    assert found == {"hash": "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb", "uuid": 36}


def test_an_expression_that_fails_is_caught(step_functions: StepFunctions) -> None:
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:s3:getObject",
        "Arguments": {"Bucket": BUCKET, "Key": "{% $error('no') %}"},
        "Catch": [{"ErrorEquals": ["States.QueryEvaluationError"], "Next": "caught", "Output": {"caught": True}}],
        "End": True,
    }
    assert output(step_functions, machine(a=task, caught=END)) == {"caught": True}


def test_an_object_that_is_absent_has_the_error_of_the_sdk(step_functions: StepFunctions) -> None:
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:s3:getObject",
        "Arguments": {"Bucket": BUCKET, "Key": "absent"},
        "Catch": [{"ErrorEquals": ["S3.NoSuchKeyException"], "Next": "caught", "Output": {"caught": True}}],
        "End": True,
    }
    assert output(step_functions, machine(a=task, caught=END)) == {"caught": True}


def distributed(body: dict[str, Any]) -> dict[str, Any]:
    mapped = {
        "Type": "Map",
        "Items": "{% [1,2] %}",
        "ItemProcessor": {
            "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
            "StartAt": "inner",
            "States": {"inner": body},
        },
        "End": True,
    }
    return machine(a={"Type": "Pass", "Assign": {"v": 1}, "Next": "map"}, map=mapped)


def test_a_child_of_a_distributed_map_is_an_execution_of_its_own(step_functions: StepFunctions) -> None:
    own = {"Type": "Pass", "Output": "{% $states.context.Execution.Name %}", "End": True}
    names = output(step_functions, distributed(own))
    assert len(set(names)) == 2
    sees = {"Type": "Pass", "Output": "{% $v %}", "End": True}
    found = run(step_functions, distributed(sees), expect="FAILED")
    assert found["error"] == "States.ExceedToleratedFailureThreshold"


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (machine(a={"Type": "Pass", "Next": "nowhere"}), "leads to 'nowhere'"),
        (machine(a=END, b=END), "no state leads to 'b'"),
        (machine(**{"x" * 81: END}), "over 80 characters"),
        (
            machine(a={"Type": "Parallel", "Branches": [{"StartAt": "b", "States": {"b": END}}], "Next": "b"}, b=END),
            "'b' stands twice",
        ),
        (
            machine(
                a={
                    "Type": "Task",
                    "Resource": "arn:aws:states:::batch:submitJob.sync",
                    "Arguments": {"JobName": "a", "JobQueue": "q", "JobDefinition": "d", "NodeOverrides": {}},
                    "End": True,
                }
            ),
            "takes no 'NodeOverrides'",
        ),
        (
            machine(
                a={
                    "Type": "Task",
                    "Resource": "arn:aws:states:::aws-sdk:s3:getObject",
                    "Arguments": {"Bucket": "b", "Kee": "k"},
                    "End": True,
                }
            ),
            "no field 'Kee'",
        ),
        (machine(a={"Type": "Fail", "Error": "States.Mine", "Cause": "x"}), "kept for AWS"),
        (machine(a={"Type": "Pass", "Output": "{% (1 + %}", "End": True}), "is no JSONata"),
        (machine(a={"Type": "Pass", "Comment": "x" * (1 << 20), "End": True}), "AWS takes 1048576"),
    ],
    ids=range(9),
)
def test_what_aws_refuses_is_refused_and_spoils_nothing(
    step_functions: StepFunctions, broken: dict[str, Any], told: str
) -> None:
    with pytest.raises(ClientError, match=told.replace("(", r"\(")):
        made(step_functions, broken)
    assert output(step_functions, machine(a=END), {"a": 1}) == {"a": 1}


def test_a_machine_that_is_there_is_not_made_anew(step_functions: StepFunctions) -> None:
    name = made(step_functions, machine(a=END))
    states = step_functions.client("stepfunctions")
    role = step_functions.environment["METAFLOW_SFN_IAM_ROLE"]
    with pytest.raises(states.exceptions.StateMachineAlreadyExists):
        states.create_state_machine(name=name, definition=json.dumps(machine(b=END)), roleArn=role)


def test_batch_refuses_an_array_of_one_and_long_overrides(step_functions: StepFunctions) -> None:
    batch = step_functions.client("batch")
    container = {
        "image": "x", "command": ["true"],
        "resourceRequirements": [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "10"}],
    }  # fmt: skip
    batch.register_job_definition(jobDefinitionName="probe", type="container", containerProperties=container)
    job = {
        "jobName": "probe", "jobDefinition": "probe",
        "jobQueue": step_functions.environment["METAFLOW_BATCH_JOB_QUEUE"],
    }  # fmt: skip
    with pytest.raises(batch.exceptions.ClientException, match="between 2 and 10000"):
        batch.submit_job(**job, arrayProperties={"size": 1})
    long = {"environment": [{"name": "A", "value": "x" * 8200}]}
    with pytest.raises(batch.exceptions.ClientException, match="AWS takes 8192"):
        batch.submit_job(**job, containerOverrides=long)


def test_a_rule_starts_a_machine_unless_it_is_disabled(step_functions: StepFunctions) -> None:
    aws = step_functions
    events, source = aws.client("events"), f"probe.{uuid.uuid4().hex}"
    role = aws.environment["METAFLOW_EVENTS_SFN_ACCESS_IAM_ROLE"]
    started = {state: made(aws, machine(a=END)) for state in ("ENABLED", "DISABLED")}
    for state, name in started.items():
        events.put_rule(Name=name, EventPattern=json.dumps({"source": [source]}), State=state)
        target = {"Id": "1", "Arn": f"{STATES}:stateMachine:{name}", "RoleArn": role}
        events.put_targets(Rule=name, Targets=[target])
    events.put_events(Entries=[{"Source": source, "DetailType": "x", "Detail": '{"a": 1}'}])
    (one,) = aws.runs(started["ENABLED"], "Probe")
    given = json.loads(one.get()["input"])
    assert (given["source"], given["detail"]) == (source, {"a": 1})
    assert given["time"].endswith("Z")
    assert aws.runs(started["DISABLED"], "Probe") == []


def test_a_machine_acts_by_its_role(step_functions: StepFunctions) -> None:
    aws, role = step_functions, f"arn:aws:iam::{ACCOUNT}:role/probe"
    aws.store.authority.add(role, [], trust("states"))
    aws.client("s3").put_object(Bucket=BUCKET, Key="probe", Body=b"found")
    read = {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:s3:getObject",
        "Arguments": {"Bucket": BUCKET, "Key": "probe"},
        "End": True,
    }
    name = made(aws, machine(a=read), role)
    failed = aws.start(name, "Probe").wait(timeout=30, expect="FAILED")
    assert "is not authorized to perform: s3:GetObject" in failed["cause"]
    aws.store.authority.add(role, [EVERYTHING], trust("states"))
    aws.start(name, "Probe").wait(timeout=30)


def test_a_rule_whose_role_may_not_start_the_machine_starts_nothing(step_functions: StepFunctions) -> None:
    aws, role = step_functions, f"arn:aws:iam::{ACCOUNT}:role/probe-of-rules"
    name, source, events = made(aws, machine(a=END)), f"probe.{uuid.uuid4().hex}", aws.client("events")
    events.put_rule(Name=name, EventPattern=json.dumps({"source": [source]}))
    target = {"Id": "1", "Arn": f"{STATES}:stateMachine:{name}", "RoleArn": role}
    aws.store.authority.add(role, [EVERYTHING], trust("states"))
    with pytest.raises(ClientError, match="not authorized to assume the provided role"):
        events.put_targets(Rule=name, Targets=[target])
    aws.store.authority.add(role, [], trust("events"))
    events.put_targets(Rule=name, Targets=[target])
    event = {"Source": source, "DetailType": "x", "Detail": "{}"}
    events.put_events(Entries=[event])
    assert aws.runs(name, "Probe") == []
    aws.store.authority.add(role, [EVERYTHING], trust("events"))
    events.put_events(Entries=[event])
    assert len(aws.runs(name, "Probe")) == 1


def test_a_container_acts_by_the_role_of_its_job_definition(step_functions: StepFunctions) -> None:
    aws, role = step_functions, f"arn:aws:iam::{ACCOUNT}:role/probe-of-jobs"
    aws.store.authority.add(role, [], trust("ecs-tasks"))
    write = f"import boto3; boto3.client('s3').put_object(Bucket='{BUCKET}', Key='of-a-job', Body=b'')"
    requirements = [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "10"}]
    container = {"image": "x", "command": ["python", "-c", write], "resourceRequirements": requirements}
    batch = aws.client("batch")
    batch.register_job_definition(
        jobDefinitionName="by-role", type="container", containerProperties={**container, "jobRoleArn": role}
    )

    def ended() -> tuple[str, str]:
        queue = aws.environment["METAFLOW_BATCH_JOB_QUEUE"]
        job = batch.submit_job(jobName="by-role", jobDefinition="by-role", jobQueue=queue)["jobId"]
        wait_until(lambda: batch.describe_jobs(jobs=[job])["jobs"][0]["status"] in ("FAILED", "SUCCEEDED"), timeout=60)
        return batch.describe_jobs(jobs=[job])["jobs"][0]["status"], aws.job_log(job)

    status, log = ended()
    assert status == "FAILED"
    assert f"{role} is not authorized to perform: s3:PutObject" in log
    aws.store.authority.add(role, [EVERYTHING], trust("ecs-tasks"))
    assert ended()[0] == "SUCCEEDED"


def test_only_what_has_failed_is_redriven(step_functions: StepFunctions) -> None:
    execution = step_functions.start(made(step_functions, machine(a=END)), "Probe")
    execution.wait(timeout=30)
    states = step_functions.client("stepfunctions")
    with pytest.raises(states.exceptions.ExecutionNotRedrivable):
        states.redrive_execution(executionArn=execution.arn)
