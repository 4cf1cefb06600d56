"""Which job of AWS Batch a task finds again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_metaflow.compute.batch.operator import MetaflowBatchOperator


class Client:
    """Lists jobs as Batch does with a filter by name: of all states."""

    def __init__(self, *jobs: tuple[str, str]) -> None:
        self.ended: list[str] = []
        self.jobs = [{"jobName": name, "jobId": f"id-{name}", "status": state} for name, state in jobs]

    def get_paginator(self, _: str) -> Any:
        return SimpleNamespace(paginate=lambda **_: [{"jobSummaryList": self.jobs}])

    def terminate_job(self, jobId: str, **_: Any) -> None:
        self.ended.append(jobId)


def found(*jobs: tuple[str, str], results: tuple[int, ...] = ()) -> tuple[str, int] | None:
    return search(Client(*jobs), results)


def search(client: Client, results: tuple[int, ...] = (), first: int = 0) -> tuple[str, int] | None:
    operator = MetaflowBatchOperator(task_id="step", job_name="job", job_queue="queue", attempt=3, first_attempt=first)
    operator.has_result = lambda attempt: attempt in results
    operator.__dict__["hook"] = SimpleNamespace(
        client=client, SUCCESS_STATE="SUCCEEDED", get_job_description=lambda _: {}
    )
    return operator._own_job()


@pytest.mark.parametrize("state", ["SUBMITTED", "RUNNABLE", "RUNNING"])
def test_a_job_that_is_alive_is_found_again(state: str) -> None:
    assert found(("job-0", "SUCCEEDED"), ("job-1", "FAILED"), ("job-2", state), results=(0,)) == ("id-job-2", 2)


def test_a_job_that_has_succeeded_unseen_is_found_again_if_its_result_is_there() -> None:
    jobs = (("job-0", "SUCCEEDED"), ("job-1", "SUCCEEDED"), ("job-2", "FAILED"))
    assert found(*jobs, results=(0, 1)) == ("id-job-1", 1)
    # With a datastore that has lost it.
    assert found(*jobs) is None


def test_the_jobs_of_others_are_not_found() -> None:
    assert found(("job-5-0", "RUNNING"), ("jobs-0", "RUNNING"), ("job-0", "FAILED")) is None


def test_a_job_from_before_the_last_clear_is_ended_and_its_success_does_not_count() -> None:
    client = Client(("job-0", "SUCCEEDED"), ("job-1", "RUNNING"), ("job-2", "FAILED"))
    assert search(client, results=(0,), first=2) is None
    assert client.ended == ["id-job-1"]
