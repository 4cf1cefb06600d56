"""What the answer of a runner process to a task says: its result, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metaflow_orchestration.exceptions import FinalFailureError, ParameterValueError, StepFailedError
from metaflow_orchestration.run.commands import NO_RETRY, StepCall

_LIMIT_SLACK_SECONDS = 60
"""How much later than Metaflow's own ``@timeout`` the process is killed, so that retry and catch can see it."""


def time_limit(call: StepCall) -> int | None:
    """Return after how many seconds the process of a task is killed, None for no limit.

    :param call: the task.
    """
    seconds = call.step.timeout_seconds
    if seconds is None or call.attempt > call.max_user_retries:
        return None
    return seconds + max(_LIMIT_SLACK_SECONDS, seconds // 10)


def check_answer(flow: str, call: StepCall, answer: Mapping[str, Any], message: str | None) -> None:
    """Check that a task has succeeded and left a result.

    :param flow: name of the flow.
    :param call: the task.
    :param answer: what the runner process has answered.
    :param message: the last error that the task has written, if any.
    :raises ParameterValueError: if a value of a parameter was refused.
    :raises FinalFailureError: if it failed and asks for no further attempt.
    :raises StepFailedError: if it failed.
    """
    status = answer["status"]
    pathspec = f"{flow}/{call.run_id}/{call.step.name}/{call.task_id}"
    if status == 0 and answer["outcome"] is not None:
        return
    where = {"flow": flow, "step": call.step.name}
    if answer.get("refused"):
        raise ParameterValueError(answer["refused"]["message"], flow=flow, hint=answer["refused"]["hint"])
    if answer["phase"] == "init":
        raise StepFailedError(f"the run could not be registered: init exited with {status}.", **where)
    if status == 0:
        raise StepFailedError(f"task {pathspec} exited with 0 but has no result in the datastore.", **where)
    how = f"was killed by signal {-status}" if status < 0 else f"failed with exit code {status}"
    if status == NO_RETRY:
        raise FinalFailureError(
            f"task {pathspec}, attempt {call.attempt}, {how}, which asks for no further attempt.", **where
        )
    # The message of the exception comes last: it is what the reader of the log looks for.
    why = f": {message}" if message else "; its log says why."
    raise StepFailedError(f"task {pathspec}, attempt {call.attempt}, {how}{why}", **where)
