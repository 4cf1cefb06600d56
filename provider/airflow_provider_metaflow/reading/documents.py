"""Questions about Metaflow's runs and their answers, as types of the JSON that the processes of ``pool.py`` exchange.

They also stand in Airflow's database, as arguments of triggers, and in the page's templates. Both ends of a pipe are
of one release. Standard library only: the process of ``process.py`` loads this file, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict, Union

if TYPE_CHECKING:
    from typing_extensions import NotRequired


class Source(TypedDict, total=False):
    """Where a deployment keeps its runs; what is missing is as Metaflow is configured."""

    metadata: str
    datastore: str
    root: str


class Question(TypedDict):
    """What all questions have: their name, the namespace that the run must be in, and where to look."""

    op: str
    namespace: NotRequired[str | None]
    source: NotRequired[Source]


class RunQuestion(Question):
    """``run``: whether the run ``Flow/run`` has finished; also the base of what is asked about a run."""

    pathspec: str


class ArtifactQuestion(RunQuestion):
    """``artifact``: its value, or with ``"value": false`` only whether it is there."""

    name: str
    max_bytes: int
    value: NotRequired[bool]


class OverviewQuestion(RunQuestion):
    """``overview``: all that the page shows, or the part about one step and tasks of it."""

    step: NotRequired[str | None]
    tasks: NotRequired[list[str] | None]
    max_tasks: NotRequired[int]


class CardQuestion(RunQuestion):
    """``card``: the HTML of a card of a task."""

    hash: str
    max_bytes: int


class DeploymentQuestion(Question):
    """What is asked of a deployed flow; ``impl`` is the kind of its deployer."""

    deployment: str
    impl: str | None


class TriggerQuestion(DeploymentQuestion):
    """``trigger``: start a run."""

    parameters: Mapping[str, object]


class StatusQuestion(DeploymentQuestion):
    """``status`` and ``terminate``: how far a triggered run is, and the end of it."""

    pathspec: str


class NoAnswer(TypedDict):
    """Why there is no answer; ``plain`` is a sentence of ours, which may be shown to everybody."""

    error: str
    transient: NotRequired[bool]
    plain: NotRequired[bool]


class Missing(TypedDict):
    """What the question is about does not exist."""

    exists: bool
    message: str


class RunAnswer(TypedDict):
    """How far a run is; ``status`` where its deployer knows it by another name."""

    exists: bool
    finished: bool
    successful: bool
    status: NotRequired[str | None]


class ArtifactAnswer(TypedDict):
    """An artifact, and the pathspec of the task that has it."""

    exists: bool
    task: str
    value: NotRequired[Any]


class CardAnswer(TypedDict):
    """The HTML of a card."""

    exists: bool
    html: str


class TriggerAnswer(TypedDict):
    """The run that was started, ``Flow/run``."""

    pathspec: str


class TerminateAnswer(TypedDict):
    """Whether the run was ended."""

    terminated: bool


class Done(TypedDict):
    """The answer to ``ping`` and ``prepare``, for people."""

    message: str


class ShownArtifact(TypedDict):
    """An artifact as the page shows it."""

    name: str
    type: str
    size: object
    preview: str | None
    hidden: bool


class ShownCard(TypedDict):
    """A card of a task."""

    type: str
    hash: str


class ShownError(TypedDict):
    """The exception that ended a task."""

    type: str
    message: str


class ShownTask(TypedDict):
    """A task of an overview."""

    task: str
    pathspec: str
    finished: bool
    successful: bool
    attempt: int | None
    error: ShownError | None
    artifacts: list[ShownArtifact]
    cards: list[ShownCard]


class ShownStep(TypedDict):
    """A step of an overview."""

    step: str
    tasks: list[ShownTask]


class OverviewAnswer(TypedDict):
    """What the page shows of a run; it is not ``complete`` if there are more tasks than it may show."""

    exists: bool
    pathspec: str
    finished: bool
    tags: list[str]
    parameters: dict[str, str | None]
    steps: list[ShownStep]
    complete: bool


Answer = Union[  # noqa: UP007  (TypedDicts know no `|` in Python 3.10)
    NoAnswer, Missing, RunAnswer, ArtifactAnswer, CardAnswer, OverviewAnswer, TriggerAnswer, TerminateAnswer, Done
]


class StoredArtifact(TypedDict, total=False):
    """An artifact in the summary of a task. Whoever ran the task may have written anything."""

    key: object
    type: object
    size: object
    value: Any


class StoredSummary(TypedDict):
    """A summary, of which only that it has artifacts is certain; see ``task_documents.py`` of the extension."""

    artifacts: dict[str, StoredArtifact]
    ok: NotRequired[object]
    error: NotRequired[object]
    parameters: NotRequired[object]
