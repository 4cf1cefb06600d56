"""Ends what a run leaves behind when it is terminated.

AWS ends the executions of distributed maps and the jobs that states wait for. The jobs of gangs it does not know: a
state submits them, and others look whether they have ended.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

from metaflow_adapters.step_functions.aws.client import Aws, AwsError, aws_call
from metaflow_adapters.step_functions.aws.structures import Execution, JobDetail

from .history import OpenSubmission, children, read_history

_LOG = logging.getLogger(__name__)

CHILDREN_SECONDS = 20.0
"""How long AWS may take to end the executions of a distributed map; then they are ended one by one."""

SUBMISSION_SECONDS = 10.0
"""How long a job that was being submitted is looked for; AWS Batch lists jobs a moment after it has taken them."""

PAUSE_SECONDS = 1.0

_LEFT = ("ABORTED", "FAILED", "TIMED_OUT", "RUNNING")
_DESCRIBED = 100
_ENDED = ("SUCCEEDED", "FAILED")


def end_gangs(aws: Aws, execution_arn: str, reason: str) -> None:
    """End the jobs of gangs of a run that was stopped, those of its distributed maps too.

    :param aws: clients of AWS.
    :param execution_arn: its execution, which has been stopped.
    :param reason: why, for the jobs.
    """
    found = read_history(aws, execution_arn)
    for job in _described(aws, [one.job_id for one in found.jobs if not one.waited]):
        if job.get("status") not in _ENDED:
            _end(aws, job["jobId"], reason)
    for submission in found.submissions:
        _end_submitted(aws, submission, reason)
    for map_run in found.map_runs:
        for child in _stopped_children(aws, map_run, reason):
            end_gangs(aws, child["executionArn"], reason)


def _end(aws: Aws, job_id: str, reason: str) -> None:
    with aws_call(f"Ending the job {job_id}"):
        aws.batch.terminate_job(jobId=job_id, reason=reason)


def _described(aws: Aws, job_ids: list[str]) -> Iterator[JobDetail]:
    for start in range(0, len(job_ids), _DESCRIBED):
        with aws_call("Reading the jobs of the run"):
            found = aws.batch.describe_jobs(jobs=job_ids[start : start + _DESCRIBED])["jobs"]
        yield from found


def _stopped_children(aws: Aws, map_run: str, reason: str) -> list[Execution]:
    """Return the executions of a map run that did not succeed, when none of them submits a job any more.

    One that failed may have left a gang in another of its branches.
    """
    deadline = time.monotonic() + CHILDREN_SECONDS
    while running := list(children(aws, map_run, ("RUNNING",))):
        if time.monotonic() > deadline:
            for one in running:
                with aws_call("Ending an execution of a distributed map"):
                    aws.states.stop_execution(executionArn=one["executionArn"], error="Terminated", cause=reason)
            break
        time.sleep(PAUSE_SECONDS)
    # Not those that succeeded, of which there may be thousands.
    return list(children(aws, map_run, _LEFT))


def _end_submitted(aws: Aws, submission: OpenSubmission, reason: str) -> None:
    """End a job whose id the execution has not learned any more, if AWS Batch has taken it."""
    deadline = time.monotonic() + SUBMISSION_SECONDS
    try:
        while not (found := list(_submitted(aws, submission))) and time.monotonic() < deadline:
            time.sleep(PAUSE_SECONDS)
    except AwsError as error:
        _LOG.warning("The job %s was being submitted, and is not looked for: %s", submission.name, error)
        return
    for job_id in found:
        _end(aws, job_id, reason)


def _submitted(aws: Aws, submission: OpenSubmission) -> Iterator[str]:
    """Yield the ids of jobs with the name and the variables of a submission: its step, run and index path."""
    # A minute for clocks that differ.
    since = (submission.since.timestamp() - 60) * 1000
    with aws_call(f"Looking for the job {submission.name}"):
        pages = aws.batch.get_paginator("list_jobs").paginate(
            jobQueue=submission.queue, filters=[{"name": "JOB_NAME", "values": [submission.name]}]
        )
        ids = [
            one["jobId"]
            for page in pages
            for one in page["jobSummaryList"]
            if one.get("createdAt", since) >= since and one.get("status") not in _ENDED
        ]
    for job in _described(aws, ids):
        for nodes in job.get("nodeProperties", {}).get("nodeRangeProperties", []):
            variables = {one["name"]: one.get("value") for one in nodes.get("container", {}).get("environment", [])}
            if submission.environment.items() <= variables.items():
                yield job["jobId"]
                break
