"""The lines that jobs of AWS Batch have logged to CloudWatch."""

from __future__ import annotations

from collections.abc import Iterator

from metaflow_adapters.step_functions.aws.client import Aws, aws_call
from metaflow_adapters.step_functions.aws.structures import JobDetail
from metaflow_adapters.step_functions.emit.job_definitions import DEFAULT_LOG_GROUP

_DESCRIBED = 100
"""How many jobs AWS Batch describes at a time."""


def lines_of(aws: Aws, job_id: str) -> Iterator[str]:
    """Yield the lines of a job, of the children of an array, and of the nodes of a gang.

    :param aws: clients of AWS.
    :param job_id: the job.
    """
    with aws_call(f"Reading the job {job_id}"):
        jobs: list[JobDetail] = aws.batch.describe_jobs(jobs=[job_id])["jobs"]
        parts = list(_parts(jobs[0])) if jobs else []
        for start in range(0, len(parts), _DESCRIBED):
            jobs += aws.batch.describe_jobs(jobs=parts[start : start + _DESCRIBED])["jobs"]
    for job in jobs:
        # A job that runs has no attempt that has ended, and its container has the stream.
        containers = [attempt.get("container", {}) for attempt in job.get("attempts", [])]
        streams = [one.get("logStreamName") for one in (*containers, job.get("container", {}))]
        for stream in dict.fromkeys(filter(None, streams)):
            yield from _stream(aws, job, stream)


def _parts(job: JobDetail) -> Iterator[str]:
    """Yield the ids of the children of an array or the nodes of a gang (AWS Batch user guide, "Job IDs")."""
    yield from (f"{job['jobId']}:{number}" for number in range(job.get("arrayProperties", {}).get("size") or 0))
    yield from (f"{job['jobId']}#{number}" for number in range(job.get("nodeProperties", {}).get("numNodes") or 0))


def _stream(aws: Aws, job: JobDetail, stream: str) -> Iterator[str]:
    options = (job.get("container", {}).get("logConfiguration") or {}).get("options") or {}
    group = options.get("awslogs-group", DEFAULT_LOG_GROUP)
    with aws_call(f"Reading the log {stream}"):
        pages = aws.logs.get_paginator("filter_log_events").paginate(logGroupName=group, logStreamNames=[stream])
        for page in pages:
            yield from (event["message"] for event in page["events"])
