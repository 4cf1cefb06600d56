"""Metaflow tasks in jobs of AWS Batch, by Airflow's own operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import DAG
from tests.support.batch_api import BatchApi
from tests.support.containers import inputs_of, work
from tests.support.task_runs import FlowRun, MemoryMetaflow, at

from metaflow_orchestration.exceptions import FinalFailureError, StepFailedError
from metaflow_orchestration.graph.model import Retry
from metaflow_orchestration.run.commands import StepCall

Jobs = Callable[..., FlowRun]
Document = dict[str, Any]
ONCE_MORE = {"start": {"retry": Retry(user=1)}}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> BatchApi:
    return BatchApi().install(monkeypatch)


@pytest.fixture
def jobs(remote_dag: Callable[..., DAG], api: BatchApi, metaflow: MemoryMetaflow) -> Jobs:
    """Starts a run whose steps are jobs."""

    def make(shape: str = "linear", steps: Any = None, run_id: str = "manual__1", **options: Any) -> FlowRun:
        batch = {"poll_interval": 0, "iam_role": "arn:aws:iam::123456789012:role/jobs", "execution_role": "role"}
        dag = remote_dag(shape, steps, compute="batch", batch={**batch, **options})

        def container(document: Document, index: int) -> tuple[int, str]:
            code, message = work(metaflow, dag, document, index)
            return code, message if code else ""

        api.run = container
        return FlowRun(dag, dag_run_id=run_id)

    return make


def fail(call: StepCall, kind: type[StepFailedError] = StepFailedError) -> Document:
    raise kind(f"{at(call)} broke")


def test_a_step_is_one_job_whose_definition_is_made_once(jobs: Jobs, api: BatchApi) -> None:
    run = jobs()
    run.run_all("start", "middle", "end")
    assert api.names() == ["start/t", "middle/t", "end/t"]
    assert inputs_of(api.told()) == ["middle/t"]
    assert ["init" in api.told(number) for number in range(3)] == [True, False, False]
    assert [one["jobName"].rpartition("-")[2] for one in api.submitted] == ["0", "0", "0"]
    assert all(one["retryStrategy"] == {"attempts": 1} for one in api.submitted)
    # The command names the step, and the image is the same: one definition a step at the most.
    assert len(api.definitions) == len({one["jobDefinition"] for one in api.submitted})
    again = len(api.definitions)
    run.clear("end")
    run.run_all("end")
    assert len(api.definitions) == again
    assert api.told()["attempt"] == 1


def test_a_job_that_fails_tells_the_reasons_of_batch_and_is_tried_again(
    jobs: Jobs, api: BatchApi, metaflow: MemoryMetaflow
) -> None:
    metaflow.outcome = lambda call, done: fail(call) if call.attempt == 0 else done
    run = jobs(steps=ONCE_MORE)
    failed = run.run("start")
    assert failed == "up_for_retry"
    assert "start/t-start, attempt 0, failed: " in str(failed.error)
    assert "t broke" in str(failed.error)
    run.run_all("start")
    assert [api.told(number)["attempt"] for number in range(2)] == [0, 1]


def test_a_job_that_asks_for_no_other_attempt_fails_for_good(
    jobs: Jobs, api: BatchApi, metaflow: MemoryMetaflow
) -> None:
    metaflow.outcome = lambda call, done: fail(call, FinalFailureError)
    assert jobs(steps=ONCE_MORE).run("start") == "failed"


def test_a_job_that_succeeds_without_a_result_is_a_failure(jobs: Jobs, api: BatchApi) -> None:
    run = jobs(steps=ONCE_MORE)
    api.run = lambda _, __: (0, "")
    failed = run.run("start")
    assert failed == "up_for_retry"
    assert "its job is SUCCEEDED" in str(failed.error)


def test_a_job_that_batch_refuses_is_told_so(jobs: Jobs, api: BatchApi) -> None:
    run = jobs(steps=ONCE_MORE)
    api.refuse["SubmitJob"] = "The queue is full"
    failed = run.run("start")
    assert failed == "up_for_retry"
    assert "it was not submitted" in str(failed.error)


def test_a_job_counts_as_done_when_its_result_is_there_though_batch_says_it_failed(
    jobs: Jobs, api: BatchApi, metaflow: MemoryMetaflow
) -> None:
    run = jobs()
    done = api.run
    assert done is not None
    api.run = lambda document, index: (done(document, index), (1, "the host was taken away"))[1]
    run.run_all("start")
    assert run.value("start", key="metaflow")["tasks"][0]["next"] == ["middle"]


def test_without_a_queue_the_fix_is_named(jobs: Jobs, api: BatchApi) -> None:
    failed = jobs(queue=None).run("start")
    assert "@batch has no queue. Set METAFLOW_BATCH_JOB_QUEUE or @batch(queue=…)." in str(failed.error)


def test_the_time_limit_of_a_job_is_later_than_that_of_its_step(jobs: Jobs, api: BatchApi) -> None:
    jobs(steps={"start": {"timeout_seconds": 60}}).run_all("start")
    assert api.submitted[0]["timeout"] == {"attemptDurationSeconds": 660}
    assert api.told()["time_limit"] == 120


# Jobs that an earlier try has left.


def lose(run: FlowRun, api: BatchApi) -> str:
    """Let a try lose its worker: the job stays, and runs."""
    begin, api.run = api.run, lambda _, __: (1, "lost")
    assert run.run("start") == "up_for_retry"
    api.run = begin
    (job_id,) = api.jobs
    api.jobs[job_id]["status"] = "RUNNING"
    return job_id


def test_a_job_that_still_runs_is_watched_on_by_the_next_try(
    jobs: Jobs, api: BatchApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = jobs(steps=ONCE_MORE)
    job_id = lose(run, api)
    describe = api._DescribeJobs

    def ends_while_watched(jobs: list[str]) -> Document:
        found = {"jobs": [dict(one) for one in describe(jobs)["jobs"]]}
        if len(looks) == 2:
            api.end(job_id)
        looks.append(1)
        return found

    looks: list[int] = []
    monkeypatch.setattr(api, "_DescribeJobs", ends_while_watched, raising=False)
    run.run_all("start")
    assert len(api.submitted) == 1


def test_a_job_that_has_succeeded_unseen_is_not_run_again(jobs: Jobs, api: BatchApi) -> None:
    run = jobs(steps=ONCE_MORE)
    api.end(lose(run, api))
    run.run_all("start")
    assert len(api.submitted) == 1


def test_a_job_from_before_a_clear_is_ended_and_the_task_runs_again(jobs: Jobs, api: BatchApi) -> None:
    run = jobs(steps=ONCE_MORE)
    job_id = lose(run, api)
    run.clear("start")
    run.run_all("start")
    assert api.terminated == [job_id]
    assert [api.told(number)["attempt"] for number in range(2)] == [0, 1]


# Arrays and gangs.


def test_a_pack_with_array_jobs_is_one_job_that_tells_each_container_its_task(
    jobs: Jobs, api: BatchApi, metaflow: MemoryMetaflow
) -> None:
    metaflow.splits = 3
    run = jobs("grouped", array_jobs=True)
    run.run_all("start", "body", "collect")
    assert api.names() == ["start/t", "body/t-0,t-1,t-2", "collect/t"]
    assert api.submitted[1]["arrayProperties"] == {"size": 3}
    assert inputs_of(api.told()) == ["body/t-0", "body/t-1", "body/t-2"]


def test_an_array_of_which_one_task_fails_is_run_again_with_only_that(
    jobs: Jobs, api: BatchApi, metaflow: MemoryMetaflow
) -> None:
    metaflow.splits = 4
    metaflow.outcome = lambda call, done: fail(call) if (at(call), call.attempt) == ("t-2", 0) else done
    run = jobs("grouped", {"body": {"retry": Retry(user=1)}}, array_jobs=True)
    run.run_all("start")
    failed = run.run("body", 0)
    assert failed == "up_for_retry"
    assert "1 of 4 packed tasks failed" in str(failed.error)
    run.run_all("body", "collect")
    assert api.names()[1:] == ["body/t-0,t-1,t-2,t-3", "body/t-2", "collect/t"]
    assert "arrayProperties" not in api.submitted[2]


def test_a_resumed_array_takes_over_what_has_finished(jobs: Jobs, api: BatchApi, metaflow: MemoryMetaflow) -> None:
    metaflow.splits = 3
    metaflow.outcome = lambda call, done: fail(call) if at(call) == "t-1" else done
    run = jobs("grouped", array_jobs=True)
    run.run_all("start")
    assert run.run("body", 0) == "failed"
    metaflow.outcome = lambda _, done: done
    origin = api.told(0)["run_id"]
    again = FlowRun(run.dag, dag_run_id="manual__2", conf={"metaflow_resume": {"origin": origin}})
    again.run_all("start", "body", "collect")
    assert api.names()[2:] == ["body/t-1", "collect/t"]
    assert inputs_of(api.told()) == ["body/t-0", "body/t-1", "body/t-2"]


def test_a_gang_is_a_multi_node_job_and_a_gang_of_one_is_not(
    jobs: Jobs, api: BatchApi, metaflow: MemoryMetaflow
) -> None:
    api.platform = "EC2"
    metaflow.splits = 3
    run = jobs("parallel")
    run.run_all("start", "train")
    assert api.submitted[1]["nodeOverrides"]["numNodes"] == 3
    assert api.told()["gang"] == 3
    metaflow.splits = 1
    run = jobs("parallel", run_id="manual__2")
    run.run_all("start", "train")
    assert "nodeOverrides" not in api.submitted[-1]
    assert "METAFLOW_RUNTIME_ENVIRONMENT" not in api.told()["env"]


# Deferral, and an end from outside.


def test_a_deferred_job_goes_on_when_it_has_ended(jobs: Jobs, api: BatchApi) -> None:
    run = jobs(deferrable=True)
    container, api.run = api.run, None
    waiting = run.run("start")
    assert waiting == "deferred"
    assert waiting.message.classpath.endswith("MetaflowBatchTrigger")
    api.run = container
    api.end("id-0")
    done = run.run("start", resumed=waiting.message, event={"status": "success", "job_id": "id-0"})
    assert (done.state, done.error) == ("success", None)
    assert len(api.submitted) == 1


def test_a_time_limit_of_airflow_ends_the_job(jobs: Jobs, api: BatchApi, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.exceptions import AirflowTaskTimeout

    from airflow_provider_metaflow.compute.batch.operator import MetaflowBatchOperator

    def late(*_: object, **__: object) -> None:
        raise AirflowTaskTimeout

    monkeypatch.setattr(MetaflowBatchOperator, "monitor_job", late)
    run = jobs()
    api.run = None
    assert run.run("start") == "failed"
    assert api.terminated == ["id-0"]
