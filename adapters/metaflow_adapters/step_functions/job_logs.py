"""The jobs that an execution has started, and the lines that they have logged to CloudWatch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from .aws import Aws, told
from .jobs import DEFAULT_LOG_GROUP


def jobs_of(aws: Aws, execution_arn: str) -> Iterator[tuple[str, str, bool]]:
    """Yield state and id of the jobs of an execution, and whether their state waits for them."""
    states: dict[int, str] = {}
    with told("Reading the history"):
        pages = aws.states.get_paginator("get_execution_history").paginate(executionArn=execution_arn)
        events = [event for page in pages for event in page["events"]]
    for event in events:
        entered = event.get("stateEnteredEventDetails", {}).get("name")
        states[event["id"]] = entered or states.get(event.get("previousEventId", 0), "")
        waited, called = (event.get(f"task{what}EventDetails", {}) for what in ("Submitted", "Succeeded"))
        if waited.get("resourceType") == "batch":
            yield states[event["id"]], json.loads(waited["output"])["JobId"], True
        if called.get("resourceType") == "aws-sdk:batch" and called.get("resource") == "submitJob":
            yield states[event["id"]], json.loads(called["output"])["JobId"], False


def lines_of(aws: Aws, job_id: str) -> Iterator[str]:
    """Yield the lines of a job and of its children.

    :param aws: clients of AWS.
    :param job_id: the job.
    """
    with told(f"Reading the job {job_id}"):
        jobs = aws.batch.describe_jobs(jobs=[job_id])["jobs"]
        size = jobs[0].get("arrayProperties", {}).get("size", 0) if jobs else 0
        for start in range(0, size, 100):
            children = [f"{job_id}:{number}" for number in range(start, min(start + 100, size))]
            jobs += aws.batch.describe_jobs(jobs=children)["jobs"]
    for job in jobs:
        for attempt in job.get("attempts", []):
            stream = attempt.get("container", {}).get("logStreamName")
            if stream:
                yield from _stream(aws, job, stream)


def _stream(aws: Aws, job: Mapping[str, Any], stream: str) -> Iterator[str]:
    options = (job.get("container", {}).get("logConfiguration") or {}).get("options") or {}
    group = options.get("awslogs-group", DEFAULT_LOG_GROUP)
    with told(f"Reading the log {stream}"):
        pages = aws.logs.get_paginator("filter_log_events").paginate(logGroupName=group, logStreamNames=[stream])
        for page in pages:
            yield from (event["message"] for event in page["events"])
