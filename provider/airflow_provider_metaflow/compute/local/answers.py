"""What a runner process answers, and what its answer to a task says: its result, or why there is none."""

from __future__ import annotations

from typing import Any

import msgspec

from metaflow_orchestration.documents.structs import built
from metaflow_orchestration.documents.task import OutcomeDocument
from metaflow_orchestration.exceptions import FinalFailureError, ParameterValueError, StepFailedError
from metaflow_orchestration.run.commands import NO_RETRY, StepCall

_LIMIT_SLACK_SECONDS = 60
"""How much later than Metaflow's own ``@timeout`` the process is killed, so that retry and catch can see it."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why the value of a parameter was refused.

    :param message: what is wrong.
    :param hint: what to do.
    """

    message: str
    hint: str


@built
class RunAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """How the last command of a task has ended.

    :param status: its exit status, negative for a signal.
    :param phase: ``init`` or ``step``.
    :param outcome: the outcome document; None without a result.
    :param refused: why ``init`` was not begun.
    """

    status: int
    phase: str
    outcome: OutcomeDocument | None
    refused: Refusal | None = None


@built
class ProbeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Which tasks have finished.

    :param outcomes: the outcome document of each task; None where it has not finished.
    """

    outcomes: list[OutcomeDocument | None]


@built
class FindTasksAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The finished tasks of a step.

    :param outcomes: their outcome documents by task id; None for a run that this package has made.
    """

    outcomes: dict[str, OutcomeDocument] | None


@built
class SaveAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Where bytes were put.

    :param url: their URL.
    """

    url: str


@built
class HasRunAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a run is there.

    :param found: whether it is.
    """

    found: bool


@built
class RecordAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A record of a DAG run id.

    :param record: JSON types; None without one.
    """

    record: Any


@built
class DoneAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked is done."""


def time_limit(call: StepCall) -> int | None:
    """Return after how many seconds the process of a task is killed, None for no limit.

    :param call: the task.
    """
    seconds = call.step.timeout_seconds
    if seconds is None or call.attempt > call.max_user_retries:
        return None
    return seconds + max(_LIMIT_SLACK_SECONDS, seconds // 10)


def check_answer(flow: str, call: StepCall, answer: RunAnswer, message: str | None) -> OutcomeDocument:
    """Check that a task has succeeded and left a result, and return its outcome document.

    :param flow: name of the flow.
    :param call: the task.
    :param answer: what the runner process has answered.
    :param message: the last error that the task has written, if any.
    :raises ParameterValueError: if a value of a parameter was refused.
    :raises FinalFailureError: if it failed and asks for no further attempt.
    :raises StepFailedError: if it failed.
    """
    status = answer.status
    pathspec = f"{flow}/{call.run_id}/{call.step.name}/{call.task_id}"
    if status == 0 and answer.outcome is not None:
        return answer.outcome
    where = {"flow": flow, "step": call.step.name}
    if answer.refused is not None:
        raise ParameterValueError(answer.refused.message, flow=flow, hint=answer.refused.hint)
    if answer.phase == "init":
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
