"""Status of a run with distributed maps."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from tests.engines.aws.enforcement import error
from tests.support.aws_account import Account, Job
from tests.unit.adapters.step_functions.runs.test_runs_on_aws import telling

from metaflow_adapters.step_functions import FlowMachine
from metaflow_adapters.step_functions.runs.map_status import short_cause
from metaflow_adapters.step_functions.runs.runs import SfnRuns

There = Callable[..., FlowMachine]


def test_a_split_that_failed_is_named_with_the_job_that_failed(account: Account, there: There) -> None:
    made = there("split_in_foreach")
    tell = telling(made)

    def task(job: Job) -> int:
        tell(job)
        assert job.place is not None
        return int((job.place.step, job.place.at) == (failing, "t-1-"))

    foreach = next(one for one in made.manifest.graph.steps if one.kind.value == "foreach")
    failing = foreach.next_steps[0]
    account.task = task
    found = account.run(made)
    # AWS says no more of the run itself than that a split has failed.
    assert (found["status"], found["error"]) == ("FAILED", "States.ExceedToleratedFailureThreshold")
    runs = SfnRuns(account.aws(), made.name, account.flow)
    counts, *failures = runs.map_lines(runs.find(f"sfn-{found['name']}"))
    assert counts.startswith(f"foreach of {foreach.name}: ")
    # The other split is ended with the run; now and then moto fails in doing so ("pop from empty list").
    assert re.search("[12] failed", counts)
    (line,) = [one for one in failures if one.startswith("split 1: ")]
    assert all("States.Runtime" in one for one in failures if one != line)
    assert f"the job {account.flow}-{failing} failed: Essential container in task exited" in line


def test_a_run_without_distributed_maps_has_nothing_more_to_show(account: Account, there: There) -> None:
    made = there("single_step")
    found = account.run(made)
    runs = SfnRuns(account.aws(), made.name, account.flow)
    assert list(runs.map_lines(runs.find(f"sfn-{found['name']}"))) == []


def test_who_may_not_list_map_runs_sees_the_run_and_is_warned(
    account: Account, there: There, caplog: pytest.LogCaptureFixture
) -> None:
    made = there("single_step")
    found = account.run(made)

    def interrupt(principal: str, service: str, operation: str) -> None:
        if operation == "ListMapRuns":
            raise error("AccessDeniedException", "not authorized to perform: states:ListMapRuns", operation, 403)

    account.enforcement.interrupt = interrupt
    runs = SfnRuns(account.aws(), made.name, account.flow)
    assert list(runs.map_lines(runs.find(f"sfn-{found['name']}"))) == []
    assert "states:ListMapRuns" in caplog.text


@pytest.mark.parametrize(
    ("cause", "shown"),
    [
        (json.dumps({"JobName": "a", "StatusReason": "b", "Container": {}}), "the job a failed: b"),
        (json.dumps(["a"]), '["a"]'),
        ('{"JobName": "cut', '{"JobName": "cut'),
        ("words", "words"),
    ],
)
def test_a_cause_is_shown_without_the_description_of_the_job(cause: str, shown: str) -> None:
    assert short_cause(cause) == shown
