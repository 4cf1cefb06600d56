"""What the history of a run says: the jobs that it has started, those of its distributed maps too.

A split of a distributed map is an execution of its own, with a history of its own (Step Functions developer guide,
"Distributed mode"). The history of its parent names the map run, and AWS lists the executions of that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from metaflow_adapters.step_functions.aws.client import Aws, aws_call
from metaflow_adapters.step_functions.aws.structures import Execution, HistoryEvent, TaskDetails

_PAGE = {"PageSize": 1000}
"""The longest page that AWS gives: a call each, of which it takes about 20 a second."""

_ENDS = ("taskSucceededEventDetails", "taskFailedEventDetails", "taskTimedOutEventDetails")


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedJob:
    """A job of AWS Batch that a state has started.

    :param state: name of the state.
    :param job_id: its id.
    :param waited: whether the state waits for it, so that AWS ends it together with the execution.
    """

    state: str
    job_id: str
    waited: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSubmission:
    """A job that was being submitted when the history ended; whether AWS Batch has taken it is not known.

    :param name: name of the job.
    :param queue: its queue.
    :param environment: variables that its containers were given.
    :param since: when it was asked for.
    """

    name: str
    queue: str
    environment: Mapping[str, str]
    since: datetime


@dataclass(slots=True, kw_only=True)
class History:
    """What the history of one execution says.

    :param jobs: its jobs, in the order in which they were started.
    :param map_runs: the map runs of its distributed maps: ARN by ARN the name of the state.
    :param submissions: jobs of gangs whose submission has not ended.
    """

    jobs: list[StartedJob] = field(default_factory=list)
    map_runs: dict[str, str] = field(default_factory=dict)
    submissions: list[OpenSubmission] = field(default_factory=list)


def read_history(aws: Aws, execution_arn: str) -> History:
    """Return what the history of one execution says, without the executions of its distributed maps.

    :param aws: clients of AWS.
    :param execution_arn: the execution.
    """
    found, states = History(), dict[int, str]()
    open_ones: dict[int, OpenSubmission] = {}
    for event in _events(aws, execution_arn):
        own, before = event["id"], event.get("previousEventId", 0)
        entered = event.get("stateEnteredEventDetails")
        states[own] = entered["name"] if entered else states.get(before, "")
        waited, called = event.get("taskSubmittedEventDetails", {}), event.get("taskSucceededEventDetails", {})
        if waited.get("resourceType") == "batch":
            job_id = json.loads(waited["output"])["JobId"]
            found.jobs.append(StartedJob(state=states[own], job_id=job_id, waited=True))
        if _is_submission(called):
            job_id = json.loads(called["output"])["JobId"]
            found.jobs.append(StartedJob(state=states[own], job_id=job_id, waited=False))
        for begun in (event.get("mapRunStartedEventDetails"), event.get("mapRunRedrivenEventDetails")):
            if begun is not None:
                found.map_runs[begun["mapRunArn"]] = states[own]
        scheduled = event.get("taskScheduledEventDetails", {})
        if _is_submission(scheduled):
            open_ones[own] = _submission(scheduled, event["timestamp"])
        elif before in open_ones:
            # The events of a task follow each other; the last one closes it.
            submission = open_ones.pop(before)
            if not any(kind in event for kind in _ENDS):
                open_ones[own] = submission
    found.submissions = list(open_ones.values())
    return found


def whole_run(aws: Aws, execution_arn: str, statuses: Sequence[str] = ()) -> Iterator[History]:
    """Yield the history of an execution, and those of the executions of its distributed maps, at any depth.

    :param aws: clients of AWS.
    :param execution_arn: the execution.
    :param statuses: of executions of maps only those of these statuses; all if empty.
    """
    found = read_history(aws, execution_arn)
    yield found
    for map_run in found.map_runs:
        for child in children(aws, map_run, statuses):
            yield from whole_run(aws, child["executionArn"], statuses)


def children(aws: Aws, map_run_arn: str, statuses: Sequence[str] = ()) -> Iterator[Execution]:
    """Yield the executions of a map run, the oldest first.

    :param aws: clients of AWS.
    :param map_run_arn: the map run.
    :param statuses: only those of these statuses; all if empty.
    """
    found: list[Execution] = []
    with aws_call("Listing the executions of a distributed map"):
        for status in statuses or (None,):
            kept = {"statusFilter": status} if status else {}
            pages = aws.states.get_paginator("list_executions").paginate(
                mapRunArn=map_run_arn, PaginationConfig=_PAGE, **kept
            )
            found += [one for page in pages for one in page["executions"]]
    yield from sorted(found, key=lambda one: one["startDate"])


def _events(aws: Aws, execution_arn: str) -> list[HistoryEvent]:
    with aws_call("Reading the history"):
        pages = aws.states.get_paginator("get_execution_history").paginate(
            executionArn=execution_arn, PaginationConfig=_PAGE
        )
        return [event for page in pages for event in page["events"]]


def _is_submission(details: TaskDetails) -> bool:
    """Tell whether an event is of a call that submits the job of a gang."""
    return details.get("resourceType") == "aws-sdk:batch" and details.get("resource") == "submitJob"


def _submission(scheduled: TaskDetails, since: datetime) -> OpenSubmission:
    given = json.loads(scheduled["parameters"])
    environment: dict[str, str] = {}
    for nodes in given.get("NodeOverrides", {}).get("NodePropertyOverrides", []):
        environment |= {one["Name"]: one["Value"] for one in nodes["ContainerOverrides"]["Environment"]}
    return OpenSubmission(name=given["JobName"], queue=given["JobQueue"], environment=environment, since=since)
