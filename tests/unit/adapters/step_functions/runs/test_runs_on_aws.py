"""Runs of flows in an account that enforces what is printed: their order, their tries and what follows them."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError
from tests.support.aws_account import BUCKET, STATES, Account, Job
from tests.support.recorded import SHAPES

from metaflow_adapters.step_functions import FlowMachine, publish_event
from metaflow_adapters.step_functions.plan.flow import reported_by
from metaflow_adapters.step_functions.runs.runs import Caller, SfnRuns
from metaflow_orchestration.documents.manifest import Manifest, Notifications
from metaflow_orchestration.graph.model import EventTrigger, ExitHook, Retry, Schedule

There = Callable[..., FlowMachine]
ANN = Caller(user="ann")
NEXT = {
    "switch": {"start": "detour", "detour": "case_y"},
    "switch_in_foreach": {"decide": "odd"},
    "switch_in_split": {"decide": "plain"},
    "recursion": {"loop": "fan", "drain": "drained"},
}
NOT_CHOSEN = {
    "switch": {"case_x"},
    "switch_in_foreach": {"even", "many", "part", "parts_join"},
    "switch_in_split": {"fan", "body", "fan_join"},
}


def changed(**fields: Any) -> Callable[[Manifest], Manifest]:
    """A change of the flow's graph."""

    def change(manifest: Manifest) -> Manifest:
        return msgspec.structs.replace(manifest, graph=msgspec.structs.replace(manifest.graph, **fields))

    return change


def retried(step: str, retry: Retry) -> Callable[[Manifest], Manifest]:
    """A change that gives a step retries."""

    def change(manifest: Manifest) -> Manifest:
        steps = [msgspec.structs.replace(one, retry=retry) if one.name == step else one for one in manifest.graph.steps]
        return changed(steps=tuple(steps))(manifest)

    return change


def telling(made: FlowMachine, ways: dict[str, str] | None = None) -> Callable[[Job], None]:
    """A task that tells the state machine what a step of its kind would: two splits, two nodes, a way."""
    facts = {step.name: reported_by(step) for step in made.manifest.graph.steps}

    def task(job: Job) -> None:
        place = job.place
        fact = facts[place.step] if place else None
        if place is not None and fact is not None and job.variables.get("AWS_BATCH_JOB_NODE_INDEX", "0") == "0":
            job.tell((ways or {})[place.step] if fact == "next" else 2)

    return task


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_runs_each_task_once_with_the_permissions_that_are_printed(
    account: Account, there: There, shape: str
) -> None:
    made = there(shape)
    account.task = telling(made, NEXT.get(shape))
    found = account.run(made)
    assert found["status"] == "SUCCEEDED", (found.get("error"), found.get("cause"))
    ran = Counter(one.place.step for one in account.ran if one.place)
    nodes = {step.name: 2 if step.gang else 1 for step in made.manifest.graph.steps}
    assert ran == {
        step.name: 2 ** len(step.foreach_path) * nodes[step.name]
        for step in made.manifest.graph.steps
        if step.name not in NOT_CHOSEN.get(shape, ())
    }
    # Each at a place of its own.
    places = [(one.place, one.variables.get("AWS_BATCH_JOB_NODE_INDEX")) for one in account.ran]
    assert len(set(places)) == len(places)
    assert json.loads(found["output"]) == {"run_id": f"sfn-{found['name']}"}


def test_a_step_is_tried_again_as_often_as_it_may_be_and_each_try_knows_its_number(
    account: Account, there: There
) -> None:
    made = there("linear", change=retried("middle", Retry(user=2, delay_seconds=0)))
    account.task = lambda job: int(job.place.step == "middle" and job.place.attempt < 2)
    assert account.run(made)["status"] == "SUCCEEDED"
    assert account.attempts("middle") == [0, 1, 2]
    account.ran.clear()
    account.task = lambda job: int(job.place.step == "middle")
    assert account.run(made)["status"] == "FAILED"
    assert account.attempts("middle") == [0, 1, 2]
    assert account.attempts("end") == []


def test_a_child_of_an_array_is_tried_again_by_aws_batch_unless_another_try_is_of_no_use(
    account: Account, there: There
) -> None:
    made = there("foreach", change=retried("upper", Retry(user=2)))
    tell, statuses = telling(made), iter((1, 1, 1, 202))

    def task(job: Job) -> int:
        tell(job)
        return next(statuses) if job.place.step == "upper" and job.place.at.endswith("-1-") else 0

    account.task = task
    for tries in ([0, 1, 2], [0]):
        account.ran.clear()
        assert account.run(made)["status"] == "FAILED"
        assert [one.place.attempt for one in account.ran if one.place.at.endswith("-1-")] == tries


def test_a_gang_that_fails_is_tried_again_as_a_whole(account: Account, there: There) -> None:
    made = there("parallel", change=retried("train", Retry(user=1, delay_seconds=0)))
    tell = telling(made)

    def task(job: Job) -> int:
        tell(job)
        return int(job.place.step == "train" and job.place.attempt == 0)

    account.task = task
    assert account.run(made)["status"] == "SUCCEEDED"
    assert account.attempts("train") == [0, 0, 1, 1]


def test_submissions_that_aws_throttles_are_made_again(account: Account, there: There) -> None:
    class Busy:
        refused = 0

        def takes(self) -> bool:
            self.refused += 1
            return self.refused > 2

    account.enforcement.throttle = Busy()
    assert account.run(there("single_step"))["status"] == "SUCCEEDED"
    assert account.enforcement.throttle.refused == 3
    assert len(account.ran) == 1


def follows(manifest: Manifest) -> Manifest:
    hooks = (ExitHook(function="bye", on_success=True), ExitHook(function="sorry", on_success=False))
    return changed(exit_hooks=hooks)(manifest)


def hooks_of(account: Account) -> list[str]:
    """The functions that ran after runs."""
    from tests.unit.adapters.step_functions.test_compile import readable

    given = [one.variables.get("METAFLOW_ORCHESTRATOR_TASK") for one in account.ran if one.place is None]
    return [readable(one)["aside"]["function"] for one in given if one]


@pytest.mark.parametrize(
    ("end", "hook"), [("SUCCEEDED", "bye"), ("FAILED", "sorry"), ("TIMED_OUT", "sorry"), ("ABORTED", "sorry")]
)
def test_a_hook_runs_however_a_run_ends(account: Account, there: There, end: str, hook: str) -> None:
    limit = {"workflow_timeout": 1} if end == "TIMED_OUT" else {}
    made = there("single_step", change=follows, deployment=limit)
    begun, over = threading.Event(), threading.Event()

    def task(job: Job) -> int:
        begun.set()
        if job.place is not None and end in ("TIMED_OUT", "ABORTED"):
            over.wait(10)
        return int(job.place is not None and end == "FAILED")

    account.task = task
    account.deploy(made)
    arn = account.start(made)
    if end == "ABORTED":
        assert begun.wait(10)
        runs = SfnRuns(account.aws(), made.name, account.flow)
        runs.terminate(f"sfn-{arn.rpartition(':')[2]}", ANN)
    assert account.ended(arn)["status"] == end
    over.set()
    account.wait(lambda: hooks_of(account))
    follower = account.wait(lambda: account.executions("single-step-after"))
    assert account.ended(follower[0]["executionArn"])["status"] == "SUCCEEDED"
    assert hooks_of(account) == [hook]


def test_a_topic_is_told_of_a_run_that_failed(account: Account, there: There) -> None:
    topic = account.client("sns").create_topic(Name="runs")["TopicArn"]
    queue = account.client("sqs").create_queue(QueueName="told")["QueueUrl"]
    arn = account.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
    account.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn["QueueArn"])
    notifications = Notifications(on_error=True, on_success=False, sns_topic=topic)
    made = there("single_step", deployment={"notifications": notifications})
    account.task = lambda job: 1
    assert account.run(made)["status"] == "FAILED"
    follower = account.wait(lambda: account.executions("single-step-after"))
    assert account.ended(follower[0]["executionArn"])["status"] == "SUCCEEDED"
    (message,) = account.client("sqs").receive_message(QueueUrl=queue)["Messages"]
    assert json.loads(message["Body"])["Message"].startswith("Metaflow run SingleStepFlow/sfn-")


def test_an_endpoint_whose_key_is_a_secret_is_told_by_a_job_of_its_own(account: Account, there: There) -> None:
    secret = f"arn:aws:secretsmanager:us-east-1:{STATES.split(':')[4]}:secret:mine-AbCdEf"
    notifications = Notifications(on_error=True, on_success=False, slack=secret)
    made = there("single_step", deployment={"notifications": notifications})
    account.task = lambda job: int(job.place is not None)
    assert account.run(made)["status"] == "FAILED"
    follower = account.wait(lambda: account.executions("single-step-after"))
    found = account.ended(follower[0]["executionArn"])
    assert found["status"] == "SUCCEEDED", found
    assert made.resources.policies["execution"]["Statement"][0]["Resource"] == [secret]


TWO = (EventTrigger(event="tests.one"), EventTrigger(event="tests.two"))


def test_a_flow_that_waits_for_two_events_runs_once_when_both_have_come(account: Account, there: There) -> None:
    made = there("single_step", change=changed(triggers=TWO))
    account.deploy(made)
    events = account.client("events")
    publish_event("tests.one", {"a": 1}, client=events)
    gate = account.wait(lambda: account.executions("single-step-events"))
    assert account.ended(gate[0]["executionArn"])["status"] == "SUCCEEDED"
    assert account.executions("single-step") == []
    publish_event("tests.two", {"b": 2}, client=events)
    (run,) = account.wait(lambda: account.executions("single-step"))
    found = account.ended(run["executionArn"])
    assert found["status"] == "SUCCEEDED"
    assert [one["detail-type"] for one in json.loads(found["input"])["Events"]] == ["tests.one", "tests.two"]
    for one in account.wait(lambda: len(account.executions("single-step-events")) == 2 and account.executions(
        "single-step-events"
    )):  # fmt: skip
        assert account.ended(one["executionArn"])["status"] == "SUCCEEDED"
    # What was handed on is forgotten.
    publish_event("tests.one", {"a": 3}, client=events)
    account.wait(lambda: len(account.executions("single-step-events")) == 3)
    assert len(account.executions("single-step")) == 1


def test_events_that_are_delivered_twice_start_one_run(account: Account, there: There) -> None:
    """EventBridge delivers at least once."""
    made = there("single_step", change=changed(triggers=TWO))
    account.deploy(made)
    events = account.client("events")
    for name in ("tests.one", "tests.two"):
        publish_event(name, {"of": name}, client=events)
    gates = account.wait(lambda: len(found := account.executions("single-step-events")) == 2 and found)
    given = [account.ended(one["executionArn"])["input"] for one in gates]
    account.wait(lambda: account.executions("single-step"))
    states = account.client("stepfunctions")
    for text in given:
        again = states.start_execution(stateMachineArn=f"{STATES}:stateMachine:single-step-events", input=text)
        assert account.ended(again["executionArn"])["status"] == "SUCCEEDED"
    assert len(account.executions("single-step")) == 1


def test_events_that_have_come_are_forgotten_when_the_schedule_says_so(account: Account, there: There) -> None:
    reset = Schedule(cron="0 0 * * *")
    made = there("single_step", change=changed(triggers=TWO, trigger_reset=reset))
    account.deploy(made)
    publish_event("tests.one", {}, client=account.client("events"))
    gate = account.wait(lambda: account.executions("single-step-events"))
    account.ended(gate[0]["executionArn"])
    prefix = "metaflow/mf.sfn/SingleStepFlow/events/"
    store = account.client("s3")
    assert store.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["KeyCount"] == 1
    target = account.client("scheduler").get_schedule(Name="single-step-reset")["Target"]
    states = account.client("stepfunctions")
    again = states.start_execution(stateMachineArn=target["Arn"], input=target["Input"])
    assert account.ended(again["executionArn"])["status"] == "SUCCEEDED"
    assert store.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["KeyCount"] == 0


def test_a_long_input_comes_to_the_first_job_by_the_datastore(account: Account, there: There) -> None:
    made = there("decorated/nightly")
    account.deploy(made)
    found = account.ended(account.start(made, note="x" * 20_000))
    assert found["status"] == "SUCCEEDED", found
    assert account.ran[0].variables["METAFLOW_INPUT"] == "@"
    key = f"metaflow/mf.sfn/NightlyFlow/sfn-{found['name']}/input"
    kept = json.loads(account.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read())
    assert json.loads(kept["Parameters"]) == {"note": "x" * 20_000}


def test_jobs_reach_the_objects_of_their_own_flow_and_no_others(account: Account, there: There) -> None:
    seen: dict[str, Any] = {}
    own = [
        "metaflow/SingleStepFlow/sfn-1/start/1/0.data", "metaflow/data/SingleStepFlow/sfn-1/mine",
        "metaflow/mf.cards/SingleStepFlow/runs/1/card.html", "metaflow/mf.sfn/SingleStepFlow/sfn-1/t-/start",
    ]  # fmt: skip
    others = [
        "metaflow/OtherFlow/data/ab/abc", "metaflow/mf.sfn/documents/x", "elsewhere", "metaflow/SingleStepFlowX/a",
    ]  # fmt: skip

    def code(call: Callable[..., Any], **given: Any) -> str:
        try:
            call(Bucket=BUCKET, **given)
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return "done"

    def task(job: Job) -> None:
        store = job.client("s3")
        for key in (*own, *others):
            seen[key] = code(store.put_object, Key=key, Body=b""), code(store.get_object, Key=f"{key}.absent")
        seen["list"] = code(store.list_objects_v2, Prefix=own[0]), code(store.list_objects_v2, Prefix="metaflow/Other")

    account.task = task
    assert account.run(there("single_step"))["status"] == "SUCCEEDED"
    assert {key: seen[key] for key in own} == dict.fromkeys(own, ("done", "NoSuchKey"))
    written = {key: seen[key][0] for key in others}
    assert written == dict.fromkeys(others, "AccessDenied")
    assert seen[others[0]][1] == "AccessDenied"
    assert seen["list"] == ("done", "AccessDenied")


def test_a_rule_whose_role_may_not_start_the_machine_starts_nothing(account: Account, there: There) -> None:
    made = there("single_step", change=changed(triggers=(EventTrigger(event="tests.one"),)))
    account.deploy(made)
    authority = account.enforcement.authority
    role = str(made.settings.events_role)
    kept = authority[role]
    authority.principals.pop(role)
    publish_event("tests.one", client=account.client("events"))
    assert account.executions("single-step") == []
    authority.principals[role] = kept
    publish_event("tests.one", client=account.client("events"))
    assert len(account.executions("single-step")) == 1
