"""What a flow asks of Step Functions and AWS Batch: decorators, parameters, faults, verbs, hooks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.decorated import assert_decorated
from tests.support.listener import listener
from tests.support.object_store import BUCKET
from tests.support.results import artifacts
from tests.support.resumes import check_resumes
from tests.support.step_functions import STATES, Execution, StepFunctions

TRICKY = """it's "quoted" $HOME $(HOME) `id` {% $states.input %} {%1+1%} $.path \\u0041 \\n
second line, grün 🎉 {{x}} ${y}"""

PARAMETERS = {
    "number": "12",
    "ratio": "2.5",
    "flag": "True",
    "text": TRICKY,
    "config": json.dumps({"k": ["v", TRICKY], "n": 12345678901234567890}),
    "required": "-starts --with=dash",
    "dag_run": TRICKY,
    "with-dash": "=",
}


def keys(aws: StepFunctions, prefix: str) -> list[str]:
    listed = aws.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return sorted(one["Key"].removeprefix(prefix) for one in listed)


@pytest.fixture(scope="module")
def runs(step_functions: StepFunctions, flows: Path) -> dict[str, Execution]:
    """Runs that need no other, all at once."""
    aws = step_functions
    aws.create(flows / "containers/decorated.py", "--tag", "nightly", name="decorated")
    aws.create(flows / "files/parameters.py", top=("--package-suffixes", ".py,.json"), name="parameters")
    aws.create(flows / "aws/poisoned.py", name="poisoned")
    aws.create(flows / "aws/stubborn.py", name="stubborn")
    given = {"Parameters": json.dumps(PARAMETERS)}
    long = {"Parameters": {"required": "x" * 100_000 + TRICKY}}
    return {
        "decorated": aws.start("decorated", "DecoratedFlow"),
        "parameters": aws.start("parameters", "ParametersFlow", given),
        "long": aws.start("parameters", "ParametersFlow", long),
        "unknown": aws.start("parameters", "ParametersFlow", {"Parameters": {"required": "x", "colour": "red"}}),
        "missing": aws.start("parameters", "ParametersFlow"),
        "odd": aws.start("parameters", "ParametersFlow", {"required": "x"}),
        "poisoned": aws.start("poisoned", "PoisonedFlow"),
        "final": aws.start("poisoned", "PoisonedFlow", {"Parameters": {"final": True}}),
        "stubborn": aws.start("stubborn", "StubbornFlow"),
    }


@pytest.mark.extended
def test_retry_catch_environment_and_secrets_are_those_of_a_local_run(runs: dict[str, Execution]) -> None:
    runs["decorated"].wait(timeout=900)
    assert_decorated(runs["decorated"].artifacts())
    assert len(runs["decorated"].aws.store.cards("DecoratedFlow", runs["decorated"].run_id)) == 1


def test_parameters_arrive_byte_for_byte(runs: dict[str, Execution]) -> None:
    runs["parameters"].wait(timeout=900)
    seen = runs["parameters"].artifacts()["start"][((), ())]["seen"]
    assert seen == {
        "number": 12,
        "ratio": 2.5,
        "flag": True,
        "text": TRICKY,
        "nothing": None,
        "config": {"k": ["v", TRICKY], "n": 12345678901234567890},
        "required": "-starts --with=dash",
        "dag_run": TRICKY,
        "conf": "conf",
        "retry_count": 9,
        "dashed": "=",
        "notes": 'some notes\nwith "quotes"\n',
    }


def test_an_input_that_is_too_long_for_a_job_goes_by_the_datastore(runs: dict[str, Execution]) -> None:
    runs["long"].wait(timeout=900)
    assert runs["long"].artifacts()["start"][((), ())]["seen"]["required"] == "x" * 100_000 + TRICKY
    assert runs["long"].entered()["save long input"] == 1
    assert runs["parameters"].entered()["save long input"] == 0


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("unknown", "has no parameter 'colour'"),
        ("missing", "needs a value for its parameter 'required'"),
        ("odd", "The input of the execution holds 'required'"),
    ],
)
def test_an_input_that_is_wrong_fails_the_run_with_the_reason(runs: dict[str, Execution], name: str, told: str) -> None:
    found = runs[name].wait(timeout=900, expect="FAILED")
    job = json.loads(found["cause"])["JobId"]
    assert told in runs[name].aws.job_log(job)


def test_of_a_foreach_only_the_splits_that_failed_are_tried_again(runs: dict[str, Execution]) -> None:
    run = runs["poisoned"]
    run.wait(timeout=900)
    assert run.artifacts()["join"][((), ())]["attempts"] == [0, 1, 2, 0]
    tried = keys(run.aws, f"poisoned/{run.run_id}/")
    assert tried == [f"t-body-{at}" for at in ("0-0", "1-0", "1-1", "2-0", "2-1", "2-2", "3-0")]


def test_a_task_that_says_so_is_not_tried_again(runs: dict[str, Execution]) -> None:
    for name in ("final", "stubborn"):
        runs[name].wait(timeout=900, expect="FAILED")
    assert "t-body-1-1" not in keys(runs["final"].aws, f"poisoned/{runs['final'].run_id}/")
    assert keys(runs["stubborn"].aws, f"stubborn/{runs['stubborn'].run_id}/") == ["try-0"]


@pytest.mark.extended
def test_a_configured_flow_of_a_project_runs_on_its_branch(step_functions: StepFunctions, flows: Path) -> None:
    aws = step_functions
    aws.create(flows / "project/configured.py", top=("--branch", "try", "--package-suffixes", ".py,.json"))
    run = aws.start("testproject.test.try.ConfiguredFlow", "ConfiguredFlow")
    run.wait()
    found = run.artifacts()
    start = found["start"][((), ())]
    assert (start["branch"], start["production"]) == ("test.try", False)
    settings = json.loads((flows / "project/settings.json").read_text())
    assert (start["level"], start["threshold"]) == (str(settings["level"]), settings["threshold"])
    assert found["end"][((), ())]["mutated"] == "yes"


@pytest.mark.extended
def test_submissions_that_aws_refuses_are_made_again(step_functions: StepFunctions, flows: Path) -> None:
    step_functions.create(flows / "linear.py", name="throttled")
    with step_functions.store.throttled(per_second=1):
        runs = [step_functions.start("throttled", "LinearFlow") for _ in range(3)]
        for run in runs:
            run.wait(timeout=300)
    events = [json.dumps(event, default=str) for run in runs for event in run.history()]
    assert any("Batch.AWSBatchException" in event for event in events)
    # Each Metaflow task was done once.
    assert all(run.artifacts()["end"] for run in runs)
    assert not any("States.TaskFailed" in event for event in events)


def test_a_job_that_is_killed_is_tried_again_where_the_flow_says_so(step_functions: StepFunctions, flows: Path) -> None:
    step_functions.create(flows / "linear.py", name="killed", top=("--with", "retry:minutes_between_retries=0"))
    run = step_functions.start("killed", "LinearFlow")
    job = running_job(step_functions, "LinearFlow-start")
    step_functions.client("batch").terminate_job(jobId=job, reason="host lost")
    run.wait(timeout=300)
    attempts = [event for event in run.history() if event["type"] == "TaskFailed"]
    assert len(attempts) == 1
    assert run.artifacts()["end"]


def running_job(aws: StepFunctions, name: str) -> str:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        for job in aws.jobs():
            if job["jobName"] == name and job["status"] == "RUNNING":
                return str(job["jobId"])
        time.sleep(0.2)
    raise AssertionError(f"no job {name} runs")


def test_a_failed_run_is_resumed_in_a_new_run_and_redriven_in_its_own(
    step_functions: StepFunctions, flows: Path, tmp_path: Path
) -> None:
    aws, flow = step_functions, flows / "containers/unlucky.py"
    aws.create(flow, name="unlucky")
    first, other = (aws.start("unlucky", "UnluckyFlow") for _ in range(2))
    for run in (first, other):
        run.wait(expect="FAILED")
    assert "States.TaskFailed" in aws.flow(flow, "--name", "unlucky", "status", first.run_id).stdout
    aws.client("s3").put_object(Bucket=BUCKET, Key="unlucky/a star", Body=b"")
    # Only the parameter that is given to it lets the second run succeed.
    resume = ["resume", first.run_id, "--wish", "a star", "--run-id-file", str(tmp_path / "run")]
    aws.flow(flow, "--name", "unlucky", *resume)
    second = Execution(aws, "UnluckyFlow", f"{STATES}:execution:unlucky:{(tmp_path / 'run').read_text()[4:]}")
    second.wait()
    aws.flow(flow, "--name", "unlucky", "resume", other.run_id, "--redrive", "--wish", "a star")
    # Both splits are the origin's.
    joined = second.artifacts()["join"][((), ())]
    assert (joined["made_by"], joined["wished"]) == ([first.run_id] * 2, "a star")
    other.wait()
    joined = other.artifacts()["join"][((), ())]
    assert (joined["made_by"], joined["wished"]) == ([other.run_id] * 2, "a star")
    # What the job printed is in CloudWatch.
    assert "ValueError: no luck" in aws.flow(flow, "--name", "unlucky", "logs", first.run_id, "--step", "join").stdout
    refused = aws.flow(flow, "--name", "unlucky", "resume", "sfn-none", check=False)
    assert "there is no run 'sfn-none'" in refused.stdout + refused.stderr


@pytest.mark.extended
def test_runs_are_resumed_by_the_deployer_as_metaflows_own_suite_does_it(
    step_functions: StepFunctions, flows: Path
) -> None:
    who = step_functions.principals("resumes")
    step_functions.grant(who, flows / "resumed.py", top=("sfn", "--name", "resumes"))
    environment = {**os.environ, **step_functions.environment, **who.environment}
    check_resumes(flows / "resumed.py", "sfn", "resumes", environment)


def test_a_run_is_terminated_by_its_owner_only_and_its_job_with_it(
    step_functions: StepFunctions, flows: Path, tmp_path: Path
) -> None:
    aws, flow = step_functions, flows / "aws/waiting.py"

    def verb(*arguments: str, check: bool = True, **environment: str) -> str:
        done = aws.flow(flow, "--name", "steered", *arguments, check=check, **environment)
        return done.stdout + done.stderr

    aws.create(flow, name="steered")
    verb("trigger", "--run-id-file", str(tmp_path / "run"))
    run_id = (tmp_path / "run").read_text()
    run = Execution(aws, "WaitingFlow", f"{STATES}:execution:steered:{run_id[4:]}")
    job = running_job(aws, "WaitingFlow-start")
    stranger = {"METAFLOW_USER": "mallory", "METAFLOW_HOME": str(tmp_path / "home")}
    assert "belongs to a deployment of the user" in verb("terminate", run_id, check=False, **stranger)
    assert "deployed to AWS Step Functions by the user" in verb("create", check=False, **stranger)
    assert "was deployed by the user" in verb("delete", check=False, **stranger)
    assert run_id in verb("list-runs", "--running")
    verb("terminate", run_id)
    run.wait(expect="ABORTED")
    assert "has aborted and cannot be terminated" in verb("terminate", run_id, check=False)
    assert run_id in verb("list-runs", "--aborted", "--failed")
    assert "No RUNNING executions" in verb("list-runs", "--running")
    assert "steered" in verb("list-deployments")
    end = time.monotonic() + 30
    while aws.client("batch").describe_jobs(jobs=[job])["jobs"][0]["status"] not in ("FAILED", "SUCCEEDED"):
        assert time.monotonic() < end, "the job was not ended"
        time.sleep(0.5)


DEPLOYER = """
import sys
from metaflow import DeployedFlow, Deployer
flow = Deployer(sys.argv[1], pylint=False).sfn(name="deployed").create(tags=["by-deployer"])
run = flow.trigger()
run.wait_for_completion(check_interval=2, timeout=240)
again = DeployedFlow.from_sfn("deployed")
found = type(again).get_triggered_run("deployed", run.pathspec.split("/")[1])
print(run.status, found.status, again.production_token == flow.production_token, "by-deployer" in run.run.user_tags)
names = [one.deployer.name for one in type(again).list_deployed_flows("LinearFlow")]
print([one.pathspec for one in flow.list_runs(["SUCCEEDED"])] == [run.pathspec], "deployed" in names)
second = again.trigger()
print(second.terminate(), again.delete())
"""


@pytest.mark.extended
def test_the_deployer_api_deploys_triggers_and_finds_flows_again(step_functions: StepFunctions, flows: Path) -> None:
    arguments = [sys.executable, "-c", DEPLOYER, str(flows / "linear.py")]
    who = step_functions.principals("deployed")
    step_functions.grant(who, flows / "linear.py", top=("sfn", "--name", "deployed"))
    environment = {**os.environ, **step_functions.environment, **who.environment}
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert "SUCCEEDED SUCCEEDED True True" in lines
    assert lines.count("True True") == 2


@pytest.mark.extended
def test_a_flow_runs_inside_a_users_own_state_machine(step_functions: StepFunctions, flows: Path) -> None:
    aws = step_functions
    aws.create(flows / "switch.py", name="inner")
    state = {
        "Type": "Task",
        "Resource": "arn:aws:states:::states:startExecution.sync:2",
        "Arguments": {
            "StateMachineArn": f"{STATES}:stateMachine:inner",
            "Input": {
                "Parameters": {"route": "{% $states.input.route %}"},
                "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID": "{% $states.context.Execution.Id %}",
            },
        },
        "Output": "{% $states.result.Output %}",
        "End": True,
    }
    definition = {"QueryLanguage": "JSONata", "StartAt": "train", "States": {"train": state}}
    aws.client("stepfunctions").create_state_machine(
        name="outer", definition=json.dumps(definition), roleArn=aws.environment["METAFLOW_SFN_IAM_ROLE"]
    )
    run = aws.start("outer", "SwitchFlow", {"route": "short"})
    output = json.loads(run.wait()["output"])
    found = artifacts(aws.store.root, "SwitchFlow", output["run_id"], environment=aws.environment)
    assert found["start"][((), ())]["choice"] == "short"


@pytest.fixture
def hooked(flows: Path, tmp_path: Path) -> Path:
    """A flow whose hooks print what they see."""
    source = (flows / "events" / "hooked.py").read_text()
    written = 'with open(os.environ["HOOK_NOTES"], "a") as file:\n        file.write(text + "\\n")'
    assert written in source
    flow = tmp_path / "hooked.py"
    flow.write_text(source.replace(written, 'print("NOTE", text)'))
    return flow


@pytest.fixture
def slack() -> Iterator[tuple[str, list[Any]]]:
    with listener() as started:
        yield started


@pytest.mark.extended
def test_hooks_and_notifications_come_after_the_run_and_change_nothing_about_it(
    step_functions: StepFunctions, hooked: Path, slack: tuple[str, list[Any]]
) -> None:
    aws, (url, got) = step_functions, slack
    topic = aws.client("sns").create_topic(Name="runs")["TopicArn"]
    queue = aws.client("sqs").create_queue(QueueName="runs")["QueueUrl"]
    aws.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=topic.replace(":sns:", ":sqs:"))
    aws.create(
        hooked, "--notify-on-error", "--notify-sns-topic", topic, "--notify-slack-webhook-url", f"{url}/hook",
        name="hooked",
    )  # fmt: skip
    bad = aws.start("hooked", "HookedFlow", {"Parameters": {"fails": True}})
    good = aws.start("hooked", "HookedFlow")
    bad.wait(expect="FAILED")
    good.wait()
    followed = ended(aws, "hooked-after", 2)
    notes = [line for log in logs_of(aws, "HookedFlow-after") for line in log.splitlines() if "NOTE" in line]
    assert any(f"NOTE succeeded HookedFlow/{good.run_id} True True" in line for line in notes), notes
    assert any(f"NOTE failed HookedFlow/{bad.run_id} False" in line for line in notes), notes
    # A hook that fails is seen where it ran, and nowhere else.
    assert sorted(one["status"] for one in followed) == ["FAILED", "SUCCEEDED"]
    ((_, _, told),) = got
    assert told["text"].startswith(f"Metaflow run HookedFlow/{bad.run_id} failed!")
    messages = aws.client("sqs").receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    (message,) = [json.loads(one["Body"])["Message"] for one in messages]
    assert message.startswith(f"Metaflow run HookedFlow/{bad.run_id} failed. States.TaskFailed")
    # No secret stands in a definition.
    arn = f"{STATES}:stateMachine:hooked-after"
    definition = aws.client("stepfunctions").describe_state_machine(stateMachineArn=arn)["definition"]
    assert url not in definition
    assert url not in json.dumps(aws.client("batch").describe_job_definitions(), default=str)


def ended(aws: StepFunctions, machine: str, count: int) -> list[dict[str, Any]]:
    """Wait until so many executions of a machine have ended."""
    arn = f"{STATES}:stateMachine:{machine}"
    end = time.monotonic() + 240
    while time.monotonic() < end:
        listed = aws.client("stepfunctions").list_executions(stateMachineArn=arn)["executions"]
        if len([one for one in listed if one["status"] != "RUNNING"]) >= count:
            return list(listed)
        time.sleep(1)
    raise AssertionError(f"{machine} has not ended {count} times")


def logs_of(aws: StepFunctions, name: str) -> list[str]:
    return [aws.job_log(job["jobId"]) for job in aws.jobs() if job["jobName"] == name]
