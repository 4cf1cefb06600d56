"""What two runs are compared by, and how they differ: plain data, free of Metaflow.

Versions of the JSON:

* 1 (0.1.0): first release.
"""

# Without postponed annotations: msgspec would have to compile each of them when the module is imported.

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum

import msgspec

VERSION = 1

TaskKey = tuple[str, str, int]
"""Step, path in its foreaches as Metaflow records it (``work:0,item:2``), and round of a recursive step. Task ids are
those of an orchestrator, and differ where nothing else does."""


class TaskRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one task.

    :param artifacts: hashes of the content of its artifacts, by name.
    :param parents: the tasks whose results it began with.
    :param origin: pathspec of the task of another run whose result it reuses; empty if it ran.
    :param succeeded: whether its last attempt did.
    :param stdout: lines that the user's code has written.
    :param stderr: lines that it has written there.
    """

    artifacts: Mapping[str, str]
    parents: frozenset[TaskKey] = frozenset()
    origin: str = ""
    succeeded: bool = True
    stdout: tuple[str, ...] = ()
    stderr: tuple[str, ...] = ()


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one run.

    :param pathspec: ``Flow/run id``.
    :param tags: tags of users.
    :param system_tags: tags that Metaflow has made.
    :param code: hash of the code package; empty for a local run, which has none.
    :param tasks: its tasks.
    :param finished: whether its end step has ended; else the run is still running, or has failed.
    """

    pathspec: str
    tags: frozenset[str]
    system_tags: frozenset[str]
    code: str
    tasks: Mapping[TaskKey, TaskRecord]
    finished: bool = True


class Kind(str, Enum):
    """What differs."""

    TASK = "task"
    RESULT = "result"
    ARTIFACT = "artifact"
    LINEAGE = "lineage"
    LOG = "log"
    TAG = "tag"
    CODE = "code"
    SYSTEM_TAG = "system tag"


EXPECTED = frozenset({Kind.SYSTEM_TAG})
"""Differences of any two runs: when, where and by whom."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One thing in which two runs differ.

    :param kind: what differs.
    :param where: task, e.g. ``train[train:3]``, or ``run``.
    :param name: what exactly, e.g. the name of an artifact.
    :param left: what the first run has; None for nothing.
    :param right: what the second one has.
    """

    kind: Kind
    where: str
    name: str
    left: str | None
    right: str | None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """How two runs differ.

    :param left: pathspec of the first run.
    :param right: pathspec of the second run.
    :param tasks: number of tasks that both have.
    :param artifacts: number of artifacts that both have.
    :param differences: in what they differ.
    :param unfinished: pathspecs of those of the two whose end step has not ended: they go on, or have failed.
    :param version: version of the JSON.
    """

    left: str
    right: str
    tasks: int
    artifacts: int
    differences: tuple[Difference, ...]
    unfinished: tuple[str, ...] = ()
    version: int = VERSION

    @property
    def exit_code(self) -> int:
        """0 if nothing differs but what differs between any two runs, else 1; as ``diff`` has it."""
        return int(any(one.kind not in EXPECTED for one in self.differences))

    def to_json(self) -> str:
        """Return the comparison as JSON; equal comparisons give equal texts."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()


Equal = Callable[[TaskKey, str], bool]
"""Returns whether an artifact of a task has equal values in both runs although their hashes differ."""


def compare_runs(left: RunRecord, right: RunRecord, equal: Equal | None = None) -> Comparison:
    """Return how two runs differ.

    :param left: the first run.
    :param right: the second run.
    :param equal: compares the values of artifacts whose hashes differ; without it hashes alone count.
    """
    both = sorted(left.tasks.keys() & right.tasks.keys())
    artifacts = sum(len(left.tasks[key].artifacts.keys() & right.tasks[key].artifacts.keys()) for key in both)
    found = [
        *_of_run(left, right),
        *_missing(left, right),
        *(one for key in both for one in _of_task(key, left.tasks[key], right.tasks[key], equal)),
    ]
    order = list(Kind)
    return Comparison(
        left=left.pathspec,
        right=right.pathspec,
        tasks=len(both),
        artifacts=artifacts,
        differences=tuple(sorted(found, key=lambda one: order.index(one.kind))),
        unfinished=tuple(dict.fromkeys(run.pathspec for run in (left, right) if not run.finished)),
    )


def shown_key(key: TaskKey) -> str:
    """Return a task as people read it.

    :param key: the task.
    """
    step, path, turn = key
    return f"{step}{f'[{path}]' if path else ''}{f' round {turn + 1}' if turn else ''}"


def _of_run(left: RunRecord, right: RunRecord) -> Iterator[Difference]:
    for kind, ours, theirs in (
        (Kind.TAG, left.tags, right.tags),
        (Kind.SYSTEM_TAG, left.system_tags, right.system_tags),
    ):
        for tag in sorted(ours ^ theirs):
            yield Difference(
                kind=kind,
                where="run",
                name=tag,
                left=tag if tag in ours else None,
                right=tag if tag in theirs else None,
            )
    if left.code and right.code and left.code != right.code:
        yield Difference(kind=Kind.CODE, where="run", name="code package", left=left.code, right=right.code)


def _missing(left: RunRecord, right: RunRecord) -> Iterator[Difference]:
    for key in sorted(left.tasks.keys() ^ right.tasks.keys()):
        here = shown_key(key)
        is_left = key in left.tasks
        yield Difference(
            kind=Kind.TASK,
            where=here,
            name="task",
            left="ran" if is_left else None,
            right=None if is_left else "ran",
        )


def _of_task(key: TaskKey, left: TaskRecord, right: TaskRecord, equal: Equal | None) -> Iterator[Difference]:
    where = shown_key(key)
    if left.succeeded != right.succeeded:
        words = {True: "succeeded", False: "failed"}
        yield Difference(
            kind=Kind.RESULT, where=where, name="task", left=words[left.succeeded], right=words[right.succeeded]
        )
    for name in sorted(left.artifacts.keys() | right.artifacts.keys()):
        ours, theirs = left.artifacts.get(name), right.artifacts.get(name)
        if ours == theirs or (ours and theirs and equal is not None and equal(key, name)):
            continue
        yield Difference(kind=Kind.ARTIFACT, where=where, name=name, left=ours, right=theirs)
    if left.parents != right.parents:
        yield Difference(
            kind=Kind.LINEAGE, where=where, name="parents", left=_listed(left.parents), right=_listed(right.parents)
        )
    if left.origin != right.origin:
        yield Difference(
            kind=Kind.LINEAGE, where=where, name="origin", left=left.origin or None, right=right.origin or None
        )
    for name, ours_lines, theirs_lines in (
        ("stdout", left.stdout, right.stdout),
        ("stderr", left.stderr, right.stderr),
    ):
        if ours_lines != theirs_lines:
            first = _first_difference(ours_lines, theirs_lines)
            yield Difference(
                kind=Kind.LOG,
                where=where,
                name=f"{name} line {first + 1}",
                left=_line(ours_lines, first),
                right=_line(theirs_lines, first),
            )


def _listed(keys: frozenset[TaskKey]) -> str:
    return ", ".join(map(shown_key, sorted(keys)))


def _first_difference(left: Sequence[str], right: Sequence[str]) -> int:
    pairs = enumerate(zip(left, right, strict=False))
    return next((number for number, (ours, theirs) in pairs if ours != theirs), min(len(left), len(right)))


def _line(lines: Sequence[str], number: int) -> str | None:
    return lines[number] if number < len(lines) else None
