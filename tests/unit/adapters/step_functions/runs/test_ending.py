"""A run that is terminated leaves no job running, not even a gang in a distributed map or one just submitted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.engines.aws.enforcement import error
from tests.support.aws_account import QUEUE, Account, Job
from tests.unit.adapters.step_functions.runs.test_runs_on_aws import telling

from metaflow_adapters.step_functions import FlowMachine
from metaflow_adapters.step_functions.runs import ending
from metaflow_adapters.step_functions.runs.runs import Caller, SfnRuns

There = Callable[..., FlowMachine]
ANN = Caller(user="ann")
Submitted = tuple[FlowMachine, str, threading.Event]
"""A deployed flow, the ARN of its run, and what lets AWS Batch answer."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look again at once: what follows what is tested, not when."""
    monkeypatch.setattr(ending, "PAUSE_SECONDS", 0.02)


class Held:
    """Jobs of a step that run until a test lets them go."""

    def __init__(self, account: Account, made: FlowMachine, step: str, count: int) -> None:
        self.begun, self._over, self._left = threading.Event(), threading.Event(), count
        tell, lock = telling(made), threading.Lock()

        def task(job: Job) -> None:
            tell(job)
            if job.place and job.place.step == step:
                with lock:
                    self._left -= 1
                    if not self._left:
                        self.begun.set()
                self._over.wait(20)

        account.task = task

    def let_go(self) -> None:
        self._over.set()


@pytest.fixture
def held(account: Account) -> Iterator[Callable[..., Held]]:
    """Makes jobs that are let go at the end."""
    made: list[Held] = []

    def make(machine: FlowMachine, step: str, count: int = 1) -> Held:
        made.append(Held(account, machine, step, count))
        return made[-1]

    yield make
    for one in made:
        one.let_go()


def ids_of(account: Account, step: str) -> set[str]:
    return {one.variables["AWS_BATCH_JOB_ID"] for one in account.ran if one.place and one.place.step == step}


def ended(account: Account) -> list[str]:
    calls = zip(account.enforcement.calls, account.enforcement.given, strict=True)
    return [given["jobId"] for call, given in calls if call[2] == "TerminateJob"]


def forget(account: Account) -> None:
    account.enforcement.calls.clear()
    account.enforcement.given.clear()


def test_gangs_in_a_distributed_map_are_ended_with_their_run(
    account: Account, there: There, held: Callable[..., Held]
) -> None:
    made = there("parallel")
    jobs = held(made, "gang", 2)  # the first node of each of two splits; the others follow it
    account.deploy(made)
    runs = SfnRuns(account.aws(), made.name, account.flow)
    arn = account.start(made)
    assert jobs.begun.wait(30)
    # The jobs run a moment before the histories of the splits hold their ids.
    running = ids_of(account, "gang")
    assert len(running) == 2
    forget(account)
    runs.terminate(f"sfn-{arn.rpartition(':')[2]}", ANN)
    assert set(ended(account)) == running


@pytest.fixture
def submitted(account: Account, there: There, monkeypatch: pytest.MonkeyPatch) -> Iterator[Submitted]:
    """A run whose gang AWS Batch has taken, while Step Functions still waits for the answer."""
    from moto.batch.responses import BatchResponse

    made = there("parallel")
    tell = telling(made)
    taken, over, original = threading.Event(), threading.Event(), BatchResponse.submitjob

    def submitjob(self: Any) -> Any:
        answer = original(self)
        if self._get_param("jobName") == "ParallelFlow-train":
            taken.set()
            over.wait(20)
        return answer

    def task(job: Job) -> None:
        tell(job)
        if job.place and job.place.step == "train":
            over.wait(20)

    monkeypatch.setattr(BatchResponse, "submitjob", submitjob)
    account.task = task
    account.deploy(made)
    arn = account.start(made)
    assert taken.wait(20)
    forget(account)
    yield made, arn, over
    over.set()


def test_a_gang_that_is_submitted_at_that_moment_is_ended(account: Account, submitted: Submitted) -> None:
    made, arn, _ = submitted
    named = [{"name": "JOB_NAME", "values": ["ParallelFlow-train"]}]
    (job,) = account.client("batch").list_jobs(jobQueue=QUEUE, filters=named)["jobSummaryList"]
    SfnRuns(account.aws(), made.name, account.flow).terminate(f"sfn-{arn.rpartition(':')[2]}", ANN)
    assert ended(account) == [job["jobId"]]


def test_a_gang_of_another_run_goes_on(account: Account, submitted: Submitted, monkeypatch: pytest.MonkeyPatch) -> None:
    made, arn, _ = submitted
    looked_for = []

    def other(aws: Any, submission: Any) -> Iterator[str]:
        changed = {**submission.environment, "METAFLOW_PLACE": "train/sfn-other/t-/0"}
        found = list(original(aws, type(submission)(
            name=submission.name, queue=submission.queue, environment=changed, since=submission.since
        )))  # fmt: skip
        looked_for.append(found)
        yield from found

    original = ending._submitted
    monkeypatch.setattr(ending, "_submitted", other)
    monkeypatch.setattr(ending, "SUBMISSION_SECONDS", 0.1)
    SfnRuns(account.aws(), made.name, account.flow).terminate(f"sfn-{arn.rpartition(':')[2]}", ANN)
    assert looked_for
    assert ended(account) == []


def test_a_deployer_who_may_not_list_jobs_ends_the_run_and_is_warned(
    account: Account, submitted: Submitted, caplog: pytest.LogCaptureFixture
) -> None:
    made, arn, over = submitted

    def interrupt(principal: str, service: str, operation: str) -> None:
        if operation == "ListJobs":
            raise error("AccessDeniedException", "not authorized to perform: batch:ListJobs", operation, 403)

    account.enforcement.interrupt = interrupt
    SfnRuns(account.aws(), made.name, account.flow).terminate(f"sfn-{arn.rpartition(':')[2]}", ANN)
    over.set()
    assert account.ended(arn)["status"] == "ABORTED"
    assert "ParallelFlow-train was being submitted" in caplog.text
    assert "batch:ListJobs" in caplog.text
