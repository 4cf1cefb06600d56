"""What is known of the distributed maps of a run: how many of their splits have ended, and why some failed."""

from __future__ import annotations

import json
from collections.abc import Iterator

from metaflow_adapters.step_functions.aws.client import Aws, aws_call
from metaflow_adapters.step_functions.aws.structures import Execution

from .history import children

_MAX_FAILURES = 5
_COUNTED = ("succeeded", "failed", "timedOut", "aborted", "running", "pending")
_WORDS = {"timedOut": "timed out"}
_FAILED = ("FAILED", "TIMED_OUT")


def map_lines(aws: Aws, execution_arn: str) -> Iterator[str]:
    """Yield lines about the distributed maps of an execution, none if it has none.

    :param aws: clients of AWS.
    :param execution_arn: the execution.
    """
    with aws_call("Listing the distributed maps of the run"):
        pages = aws.states.get_paginator("list_map_runs").paginate(executionArn=execution_arn)
        map_runs = [one["mapRunArn"] for page in pages for one in page["mapRuns"]]
    # AWS lists the newest first.
    for map_run in reversed(map_runs):
        with aws_call("Reading a distributed map"):
            found = aws.states.describe_map_run(mapRunArn=map_run)
        counts = found["itemCounts"]
        parts = [f"{counts[name]} {_WORDS.get(name, name)}" for name in _COUNTED if counts.get(name)]
        yield f"foreach of {_label(map_run)}: {', '.join(parts) or 'nothing has started'} of {counts['total']} splits"
        if counts.get("failed") or counts.get("timedOut"):
            yield from _failures(aws, map_run)


def _label(map_run: str) -> str:
    """Return the label of a map, which is the name of the step; AWS makes one up where there is none."""
    return map_run.rpartition(":")[0].rpartition("/")[2]


def _failures(aws: Aws, map_run: str) -> Iterator[str]:
    failed = list(children(aws, map_run, _FAILED))
    for one in failed[:_MAX_FAILURES]:
        with aws_call("Reading an execution of a distributed map"):
            found: Execution = aws.states.describe_execution(executionArn=one["executionArn"])
        error = found.get("error") or found["status"].lower().replace("_", " ")
        yield f"split {_path(found)}: {error}: {short_cause(found.get('cause') or '')}".rstrip(": ")
    if len(failed) > _MAX_FAILURES:
        yield f"and {len(failed) - _MAX_FAILURES} more splits that failed"


def _path(child: Execution) -> str:
    """Return the index path of a split, e.g. ``3`` or ``3-0`` in a foreach in another."""
    at = json.loads(child.get("input") or "{}").get("at", "")
    return str(at).rpartition("/t-")[2].strip("-") or str(child.get("name", ""))


def short_cause(cause: str) -> str:
    """Return a cause; of the description of a job, which AWS gives as JSON, its name and reason.

    :param cause: the cause of a failed execution.
    """
    try:
        job = json.loads(cause)
    except ValueError:
        return cause
    if not isinstance(job, dict) or "StatusReason" not in job:
        return cause
    return f"the job {job.get('JobName', '')} failed: {job['StatusReason']}"
