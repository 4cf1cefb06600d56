"""The documents that in-task code shares with other processes, as types of their JSON; and how it keeps JSON.

The core and the adapters write what a container or a runner process is asked for, and read what it answers. In-task
code can import neither, so the same documents are declared here; a test compares the keys on both sides. A document
travels with the code package of the same release, so none has a version of its own but the summary (``task_summary``),
which is read for as long as the run is kept.

Standard library only; other modules import the types for type checkers alone.
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from typing_extensions import NotRequired

NO_RETRY = 202
"""Exit status by which a task says that another try is of no use (``METAFLOW_EXIT_DISALLOW_RETRY``)."""


class Outcome(TypedDict):
    """How a task ended that succeeded: what later steps and the orchestrator must know of it."""

    task_id: str
    attempt: int
    next: list[str]
    num_splits: NotRequired[int]
    num_parallel: NotRequired[int | None]
    values: NotRequired[list[str]]
    gang: NotRequired[list[str]]


class ArtifactFacts(TypedDict):
    """What a summary says of an artifact. ``value`` is there if it is small and JSON can hold it."""

    key: str
    type: str
    size: int | None
    value: NotRequired[Any]


class ErrorFacts(TypedDict):
    """The exception that ended a task."""

    type: str
    message: str


class Summary(TypedDict):
    """What a task writes beside its artifacts; see ``task_summary``. ``parameters`` is of the start step only."""

    version: int
    ok: bool
    outcome: Outcome | None
    artifacts: dict[str, ArtifactFacts]
    error: NotRequired[ErrorFacts]
    parameters: NotRequired[list[str]]


class Inherited(TypedDict):
    """Where a resumed run has its parameters from, and the names of those that it was given itself."""

    run: str
    given: list[str]


class FileFacts(TypedDict, total=False):
    """How the value of a file parameter is checked and stored."""

    default: str | None
    is_text: bool
    encoding: str | None


class InitRequest(TypedDict):
    """What is registered before the first task of a run; ``files`` are its file parameters."""

    task_id: str
    arguments: list[str]
    inherit: NotRequired[Inherited | None]
    files: NotRequired[dict[str, FileFacts]]


class TaskArguments(TypedDict):
    """One of the tasks of a document, with the arguments that it alone has."""

    task_id: str
    arguments: list[str]


class StoredFlow(TypedDict):
    """A flow and the datastore that its tasks write to."""

    flow_name: str
    datastore: str
    datastore_root: str


class TaskDocument(StoredFlow):
    """Which task a container runs, or which tasks an array of containers.

    The core writes it; for a container that was given only its place, ``placed_task`` makes it and adds ``clones``, the
    finished tasks whose results are taken over.
    """

    flow_file: str
    step: str
    run_id: str
    attempt: int
    arguments: list[str]
    tasks: list[TaskArguments]
    env: dict[str, str]
    package: NotRequired[str]
    init: NotRequired[InitRequest | None]
    gang: NotRequired[int | None]
    time_limit: NotRequired[int | None]
    clones: NotRequired[list[str]]


class FlowDocument(StoredFlow):
    """What all containers of a flow share that the adapters deploy."""

    flow_file: str
    env: dict[str, str]
    top_level: list[str]
    step_options: list[str]
    package: NotRequired[str]


class Branch(TypedDict, total=False):
    """Where one branch into a step comes from: ``parent`` and its ``depth``, or the ``first`` step of the branch."""

    parent: str
    depth: int
    first: str


class Sources(TypedDict, total=False):
    """Where the inputs of a step come from: a ``gang``, or branches, each once for all splits of a ``foreach``."""

    gang: str
    foreach: str
    branches: list[Branch]


class WalkedStep(TypedDict):
    """A step through which inputs are looked for; ``next`` is missing where a switch chooses."""

    depth: int
    next: NotRequired[str]


class EventMapping(TypedDict):
    """How the payload of an event becomes parameters: pairs of the parameter and the field."""

    event: str
    of_run: bool
    parameters: list[tuple[str, str]]
    all_needed: bool


_With = TypedDict("_With", {"with": "list[str]"})


class StepFacts(_With):
    """What the adapters say of one step.

    ``init_options`` to ``files`` are of the start step; what follows them is of a state machine of Step Functions.
    """

    step: str
    step_env: NotRequired[dict[str, str]]
    retries: int
    error_retries: int
    sources: Sources | None
    outputs: dict[str, str]
    steps: NotRequired[dict[str, WalkedStep]]
    triggers: NotRequired[dict[str, str]]
    is_gang: NotRequired[bool]
    time_limit: NotRequired[int]
    init_options: NotRequired[list[str]]
    parameters: NotRequired[list[str]]
    nullable: NotRequired[list[str]]
    files: NotRequired[dict[str, FileFacts]]
    reports: NotRequired[str]
    is_loop: NotRequired[bool]
    is_array: NotRequired[bool]
    counts_submissions: NotRequired[bool]
    delay: NotRequired[int]
    defaults: NotRequired[dict[str, str]]
    required: NotRequired[list[str]]


class StepDocument(FlowDocument, StepFacts):
    """The document of a container that is given only its place in the graph.

    ``placed_task`` makes a :class:`TaskDocument` of it, to which ``run_id`` to ``clones`` belong, or finds in
    ``finished`` that an earlier try has done the work. ``given`` are the parameters of the run, where they come along.
    """

    given: NotRequired[dict[str, str]]
    finished: NotRequired[Outcome | None]
    run_id: NotRequired[str]
    attempt: NotRequired[int]
    arguments: NotRequired[list[str]]
    tasks: NotRequired[list[TaskArguments]]
    init: NotRequired[InitRequest]
    gang: NotRequired[int]
    clones: NotRequired[list[str]]


class MachineFacts(TypedDict):
    """What the jobs of a state machine of Step Functions share."""

    deployment: str
    folder: str
    mappings: list[EventMapping]


class MachineDocument(FlowDocument, MachineFacts):
    """The document of all jobs of a state machine; ``each`` is what is said of each step."""

    each: dict[str, StepFacts]


class MachineStep(StepDocument, MachineFacts):
    """The document of one step of a state machine; ``at`` is the folder of the task."""

    at: str


class SideDocument(FlowDocument, total=False):
    """What a container does beside the tasks: ``heartbeat``, ``function``, ``error_script``, or telling endpoints."""

    heartbeat: bool
    function: str
    error_script: str
    succeeded: bool
    deployment: str
    alert_source: str | None
    metadata: dict[str, str]
    orchestrator: str


class TriggerFacts(TypedDict):
    """One event of ``current.trigger`` (``metaflow.events.Trigger``)."""

    timestamp: int | None
    id: str | None
    name: str | None
    type: str


class GivenParameter(TypedDict):
    """A parameter of a run as Argo passes it; ``value`` is missing where none was given."""

    name: str
    value: NotRequired[Any]


class RunRecord(TypedDict, total=False):
    """What all jobs of an execution of a state machine must know of its input."""

    origin: str | None
    events: list[TriggerFacts]
    changed: bool


class GangRecord(TypedDict):
    """What the control node of a gang leaves for the other nodes."""

    attempt: int
    address: str | None


def load_json(storage: Any, path: str) -> Any:
    """Return what :func:`save_json` has put there, None if there is nothing.

    :param storage: storage of a datastore.
    :param path: path below its root.
    """
    with storage.load_bytes([path]) as found:
        for _, local, _ in found:
            if local is not None:
                with open(local, encoding="utf-8") as file:
                    return json.load(file)
    return None


def save_json(storage: Any, path: str, content: Any) -> None:
    """Put JSON into a datastore, over what is there.

    :param storage: storage of a datastore.
    :param path: path below its root.
    :param content: JSON types.
    """
    storage.save_bytes([(path, io.BytesIO(json.dumps(content).encode()))], overwrite=True)
