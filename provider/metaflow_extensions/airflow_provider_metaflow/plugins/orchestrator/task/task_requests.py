"""What the processes of ``task_runner`` are asked and answer, as types of their JSON; one object a line.

The worker's side is ``compute/local`` of the provider, which in-task code cannot import; a test compares both. The
process runs the copy of this folder in the code package, so the worker may be of another release: the keys of a request
keep their meaning, and a new one must be optional here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from typing import Literal

    from typing_extensions import NotRequired

    from .task_documents import Inherited, InitRequest, Outcome


class FlowRequest(TypedDict):
    """What every request says of the flow and of the process that it is for."""

    op: NotRequired[str]
    flow_name: str
    flow_file: str
    datastore: str
    datastore_root: str
    cwd: str
    package: str | None
    import_paths: NotRequired[list[str]]
    env: dict[str, str]


class CommandRequest(FlowRequest):
    """One Metaflow command; ``inherit`` is of an ``init`` that takes parameters over."""

    time_limit: int | None
    inherit: NotRequired[Inherited | None]


class RunRequest(CommandRequest):
    """Run one task, after ``init`` where the run is not registered yet."""

    step: str
    run_id: str
    task_id: str
    attempt: int
    arguments: list[str]
    init: NotRequired[InitRequest | None]


class ProbeRequest(FlowRequest):
    """Tell which of these tasks have finished, in an attempt that is not before ``min_attempt``."""

    step: str
    run_id: str
    task_ids: list[str]
    min_attempt: int
    stop_at_missing: bool


class FindTasksRequest(FlowRequest):
    """Find the finished tasks of a step of a run that any deployer may have made; ``resumed`` is the run that asks."""

    step: str
    run_id: str
    resumed: str
    depth: int
    gang: bool


class SaveRequest(FlowRequest):
    """Put bytes into the datastore; ``data`` is their base64."""

    data: str


class HasRunRequest(FlowRequest):
    """Tell whether a task of a run has finished: that of its parameters."""

    step: str
    run_id: str
    task_id: str


class LoadRecordRequest(FlowRequest):
    """Read what is kept of a DAG run id."""

    name: str


class SaveRecordRequest(LoadRecordRequest):
    """Replace it. Only the worker knows what a record holds."""

    record: Any


class Refusal(TypedDict):
    """Why the value of a parameter was refused."""

    message: str
    hint: str


class RunAnswer(TypedDict):
    """How the command ended that was the last one; ``phase`` is ``init`` or ``step``."""

    status: int
    phase: Literal["init", "step"]
    outcome: Outcome | None
    refused: NotRequired[Refusal]


class ProbeAnswer(TypedDict):
    """An outcome for each task, None for those that have not finished."""

    outcomes: list[Outcome | None]


class FindTasksAnswer(TypedDict):
    """Outcomes by the task ids that this package would give; None for a run of this package."""

    outcomes: dict[str, Outcome] | None


class SaveAnswer(TypedDict):
    """Where the bytes are."""

    url: str


class HasRunAnswer(TypedDict):
    """Whether the run is there."""

    found: bool


class RecordAnswer(TypedDict):
    """What is kept, None if nothing is."""

    record: Any


class LineEvent(TypedDict):
    """A line of a task's output."""

    event: Literal["line"]
    stream: str
    text: str
