"""Runs of deployed flows, by a deployer who has the printed policy."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.engines.aws.enforcement import error
from tests.support.aws_account import QUEUE, SETTINGS, STATES, Account, Job
from tests.unit.adapters.step_functions.runs.test_runs_on_aws import changed, telling

from metaflow_adapters.step_functions import FlowMachine, compile_flow, publish_event
from metaflow_adapters.step_functions.aws.client import Aws, AwsError
from metaflow_adapters.step_functions.deploy.deployments import deployed_machines
from metaflow_adapters.step_functions.runs.runs import Caller, SfnRuns
from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.model import EventTrigger

There = Callable[..., FlowMachine]
ANN, EVE = Caller(user="ann"), Caller(user="eve", token="token-1")
STRANGER = Caller(user="mallory", token="token-2")


@pytest.fixture
def made(account: Account, there: There) -> FlowMachine:
    """A deployed flow with parameters."""
    found = there("decorated/triggered", change=changed(triggers=(EventTrigger(event="one"),)))
    account.deploy(found)
    return found


@pytest.fixture
def runs(account: Account, made: FlowMachine) -> SfnRuns:
    return SfnRuns(account.aws(), made.name, account.flow)


def run_id(arn: str) -> str:
    return f"sfn-{arn.rpartition(':')[2]}"


def test_a_run_starts_with_the_parameters_as_text(account: Account, runs: SfnRuns) -> None:
    large = 12345678901234567890
    started = runs.start({"day": "2026-01-01", "model": {"a": [large]}})
    found = runs.find(started)
    assert json.loads(json.loads(found["input"])["Parameters"]) == {"day": "2026-01-01", "model": {"a": [large]}}
    assert account.ended(found["executionArn"])["status"] == "SUCCEEDED"


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"colour": 1}, "no parameter 'colour'. Parameters are: day, exact, model"),
        ({"model": "x" * 270_000}, r"parameters take \d+ bytes; an execution takes 262144"),
    ],
)
def test_parameters_that_a_run_cannot_take_are_refused(runs: SfnRuns, parameters: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidOptionError, match=told):
        runs.start(parameters)


def test_an_input_that_aws_just_takes_is_not_refused_here(runs: SfnRuns) -> None:
    with pytest.raises(InvalidOptionError) as refused:
        runs.start({"model": "x" * 262_144})
    over = int(str(refused.value).split("take ")[1].split(" ")[0]) - 262_144
    assert runs.start({"model": "x" * (262_144 - over)}).startswith("sfn-")


@pytest.mark.parametrize(
    ("name", "told"), [("argo-1", "start with 'sfn-'"), ("sfn-absent", "no run 'sfn-absent' of the state machine")]
)
def test_a_run_that_is_not_there_is_named(runs: SfnRuns, name: str, told: str) -> None:
    with pytest.raises(InvalidOptionError, match=told):
        runs.find(name)


def test_a_machine_that_is_not_there_or_holds_no_flow_is_named(account: Account, made: FlowMachine) -> None:
    aws = account.aws()
    with pytest.raises(InvalidOptionError, match=r"no state machine 'absent'.*sfn create"):
        SfnRuns(aws, "absent", "F").machine()
    definition = json.dumps({"StartAt": "a", "States": {"a": {"Type": "Succeed"}}})
    name = f"{made.name}-after"
    account.client("stepfunctions").create_state_machine(
        name=name, definition=definition, roleArn=str(SETTINGS.machine_role)
    )
    with pytest.raises(InvalidOptionError, match="was not made from a Metaflow flow"):
        SfnRuns(aws, name, "F").machine()


def test_runs_are_listed_the_newest_first_and_by_status(account: Account, made: FlowMachine, runs: SfnRuns) -> None:
    started = []
    for status in (0, 1, 0):
        account.task = lambda job, status=status: status
        started.append(account.start(made))
        account.ended(started[-1])
    assert [one["executionArn"] for one in runs.every()] == started[::-1]
    assert [one["executionArn"] for one in runs.every(["FAILED"])] == [started[1]]
    assert [one["executionArn"] for one in runs.every(["FAILED", "SUCCEEDED"])] == started[::-1]


def test_a_run_is_ended_by_who_deployed_it_or_has_its_token_and_its_job_with_it(
    account: Account, made: FlowMachine, runs: SfnRuns
) -> None:
    begun, over = threading.Event(), threading.Event()

    def task(job: Job) -> None:
        begun.set()
        over.wait(20)

    account.task = task
    arn = account.start(made)
    assert begun.wait(10)
    with pytest.raises(InvalidOptionError, match="belongs to a deployment of the user ann"):
        runs.terminate(run_id(arn), STRANGER)
    with pytest.raises(InvalidOptionError, match="has not ended"):
        runs.resume(run_id(arn), ANN, ())
    runs.terminate(run_id(arn), EVE)
    assert account.ended(arn)["status"] == "ABORTED"
    over.set()
    with pytest.raises(InvalidOptionError, match="has aborted and cannot be terminated"):
        runs.terminate(run_id(arn), ANN)


def test_the_job_of_a_gang_is_ended_with_its_run(account: Account, there: There) -> None:
    made = there("parallel")
    tell, begun, over = telling(made), threading.Event(), threading.Event()

    def task(job: Job) -> None:
        tell(job)
        if job.place and job.place.step == "train":
            begun.set()
            over.wait(20)

    account.task = task
    account.deploy(made)
    runs = SfnRuns(account.aws(), made.name, account.flow)
    arn = account.start(made)
    assert begun.wait(20)
    gang = next(one for one in account.ran if one.place and one.place.step == "train")
    # The job runs a moment before the history of the execution holds its id, where `terminate` reads it.
    states = account.client("stepfunctions")
    account.wait(
        lambda: any(
            event.get("taskSucceededEventDetails", {}).get("resource") == "submitJob"
            for event in states.get_execution_history(executionArn=arn, maxResults=1000)["events"]
        )
    )
    account.enforcement.calls.clear()
    account.enforcement.given.clear()
    runs.terminate(run_id(arn), ANN)
    over.set()
    called = zip(account.enforcement.calls, account.enforcement.given, strict=True)
    ended = [given["jobId"] for call, given in called if call[2] == "TerminateJob"]
    assert ended == [gang.variables["AWS_BATCH_JOB_ID"]]


@pytest.mark.parametrize("tagged", [False, True])
def test_tags_of_jobs_let_their_own_deployer_end_them(account: Account, there: There, *, tagged: bool) -> None:
    """And no deployer of another flow."""
    made = there("single_step", batch_tags={"team": "ml"} if tagged else {})
    assert account.run(made)["status"] == "SUCCEEDED"
    (job,) = account.client("batch").list_jobs(jobQueue=QUEUE, jobStatus="SUCCEEDED")["jobSummaryList"]
    account.aws().batch.terminate_job(jobId=job["jobId"], reason="test")
    account.grant(there("linear", batch_tags={"team": "ml"} if tagged else {}))
    with pytest.raises(Exception, match="not authorized to perform: batch:TerminateJob"):
        account.aws().batch.terminate_job(jobId=job["jobId"], reason="test")


def test_a_run_is_resumed_with_what_it_was_started_with(account: Account, made: FlowMachine, runs: SfnRuns) -> None:
    account.task = lambda job: 1
    by_hand = account.start(made, model="m")
    account.ended(by_hand)
    publish_event("one", {"day": "d"}, client=account.client("events"))
    by_event = next(one["executionArn"] for one in runs.every() if one["executionArn"] != by_hand)
    account.ended(by_event)
    again = json.loads(runs.find(runs.resume(run_id(by_hand), ANN, ("end", "start")))["input"])
    assert json.loads(again["Parameters"]) == {"model": "m"}
    assert again["Origin"] == f"{run_id(by_hand)}:end:start"
    again = json.loads(runs.find(runs.resume(run_id(by_hand), ANN, ("end",), {"model": "{% $x %}"}))["input"])
    assert json.loads(again["Parameters"]) == {"model": "{% $x %}"}
    assert again["Origin"] == f"{run_id(by_hand)}:end:--model"
    again = json.loads(runs.find(runs.resume("17", ANN, (), {}, stored=lambda: {"model": "stored"}))["input"])
    assert (json.loads(again["Parameters"]), again["Origin"]) == ({"model": "stored"}, "17")
    with pytest.raises(InvalidOptionError, match="run ids of Step Functions start with"):
        runs.resume("17", ANN, ())
    with pytest.raises(InvalidOptionError, match="there is no parameter 'modle'"):
        runs.resume(run_id(by_hand), ANN, (), {"modle": "m"})
    again = json.loads(runs.find(runs.resume(run_id(by_event), ANN, ()))["input"])
    assert again["Origin"] == run_id(by_event)
    assert [one["detail"]["day"] for one in again["Events"]] == ["d"]
    with pytest.raises(InvalidOptionError, match="belongs to"):
        runs.resume(run_id(by_hand), STRANGER, ())


def test_a_run_is_redriven_where_it_failed(account: Account, made: FlowMachine, runs: SfnRuns) -> None:
    account.task = lambda job: int(job.place.step == "end")
    arn = account.start(made)
    assert account.ended(arn)["status"] == "FAILED"
    account.ran.clear()
    account.task = lambda job: 0
    assert runs.redrive(run_id(arn), ANN) == run_id(arn)
    account.wait(lambda: runs.find(run_id(arn))["status"] == "SUCCEEDED")
    assert [one.place.step for one in account.ran] == ["end"]


def test_a_run_that_succeeded_is_not_redriven_and_the_way_out_is_named(account: Account, runs: SfnRuns) -> None:
    started = runs.start({})
    account.ended(runs.find(started)["executionArn"])
    for call in (runs.redrive, runs.check_ended):
        with pytest.raises(InvalidOptionError, match=r"resumed in place: it has succeeded\..*without --redrive"):
            call(started, ANN)


def test_what_aws_cannot_redrive_any_more_is_refused_with_its_reason(
    runs: SfnRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS redrives for 14 days, which no test can wait."""
    found = {
        "status": "FAILED", "redriveStatus": "NOT_REDRIVABLE",
        "redriveStatusReason": "Execution redrivable period exceeded.",
    }  # fmt: skip
    monkeypatch.setattr(SfnRuns, "find", lambda *_: found)
    with pytest.raises(InvalidOptionError, match=r"in place: Execution redrivable period exceeded.*as a new run"):
        runs.redrive("sfn-1", ANN)


def test_a_deployment_is_deleted_by_its_owner_only(made: FlowMachine, runs: SfnRuns, account: Account) -> None:
    with pytest.raises(InvalidOptionError, match="was deployed by the user ann"):
        runs.delete(STRANGER)
    runs.delete(EVE)
    assert account.client("stepfunctions").list_state_machines()["stateMachines"] == []


def test_logs_are_those_of_all_jobs_of_a_run_array_children_and_gangs_too(account: Account, there: There) -> None:
    made = there("foreach", distributed=False)
    account.task = telling(made)
    found = account.run(made)
    runs = SfnRuns(account.aws(), made.name, account.flow)
    lines = list(runs.logs(run_id(found["executionArn"])))
    assert [name for name, _ in lines].count("upper") == 2
    assert {name for name, _ in lines} == {step.name for step in made.manifest.graph.steps}
    assert list(runs.logs(run_id(found["executionArn"]), "gather")) == [("gather", "ForeachFlow-gather ended with 0")]


def test_deployed_flows_are_listed_by_the_flow_that_they_hold(account: Account, there: There) -> None:
    account.deploy(there("single_step"))
    account.deploy(there("linear"))
    definition = json.dumps({"StartAt": "a", "States": {"a": {"Type": "Succeed"}}})
    states = account.client("stepfunctions")
    states.create_state_machine(name="foreign", definition=definition, roleArn=str(SETTINGS.machine_role))
    everybody = Aws(account.client)
    assert sorted(deployed_machines(everybody, None)) == ["linear", "single-step"]
    assert list(deployed_machines(everybody, "LinearFlow")) == ["linear"]


def test_a_deployer_lists_its_own_flows_and_learns_that_it_may_not_read_the_others(
    account: Account, there: There, caplog: pytest.LogCaptureFixture
) -> None:
    account.deploy(there("single_step"))
    account.deploy(there("linear"))
    # The policies that are printed for the last one name no other state machine.
    assert list(deployed_machines(account.aws(), None)) == ["linear"]
    assert "may not read 1 of the state machines: single-step" in caplog.text


def test_an_error_while_deployed_flows_are_listed_is_no_state_machine_of_others(account: Account, there: There) -> None:
    account.deploy(there("linear"))

    def interrupt(arn: str, service: str, operation: str) -> None:
        if operation == "DescribeStateMachine":
            raise error("ThrottlingException", "Rate exceeded", operation)

    account.enforcement.interrupt = interrupt
    with pytest.raises(AwsError, match=r"Reading the state machine linear failed.*Rate exceeded"):
        list(deployed_machines(account.aws(), None))


def test_an_error_of_aws_says_what_was_tried(account: Account, runs: SfnRuns) -> None:
    def interrupt(arn: str, service: str, operation: str) -> None:
        if operation in ("DescribeExecution", "StartExecution", "ListExecutions"):
            raise error("ThrottlingException", "Rate exceeded", operation)

    runs.machine()
    account.enforcement.interrupt = interrupt
    for call, told in (
        (lambda: runs.find("sfn-1"), "Reading the run sfn-1 failed.*Rate exceeded.*rights"),
        (lambda: runs.start({}), "Starting .* failed"),
        (lambda: list(runs.every()), "Listing the runs of"),
    ):
        with pytest.raises(AwsError, match=told):
            call()


def test_a_flow_without_parameters_takes_none(account: Account, there: There) -> None:
    account.deploy(there("single_step"))
    runs = SfnRuns(account.aws(), "single-step", "SingleStepFlow")
    with pytest.raises(InvalidOptionError, match=r"no parameter 'a'\. Parameters are: none"):
        runs.start({"a": 1})


def test_a_machine_trusts_only_its_own_copy_of_the_manifest(account: Account, there: There) -> None:
    made = there("single_step")
    again = compile_flow(msgspec.convert(msgspec.to_builtins(made.manifest), type(made.manifest)),
                         settings=SETTINGS, queue=QUEUE)  # fmt: skip
    assert again.to_json() == made.to_json()
    assert made.arn == f"{STATES}:stateMachine:single-step"
