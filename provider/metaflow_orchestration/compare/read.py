"""Reads runs with Metaflow's client, for a command line. Imports Metaflow; no server may import this module.

Hashes of artifacts come from the metadata service. What the datastore holds is unpickled for the graph of the flow, and
for values that the user asks to compare: on the user's own machine, as Metaflow's client does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from metaflow_orchestration.exceptions import MetaflowQueryError

from .model import Equal, RunRecord, TaskKey, TaskRecord

_GRAPH = "_graph_info"
_PATH = "foreach-execution-path"


class Reader:
    """One run.

    :param pathspec: ``Flow/run id``.
    :param with_logs: whether logs are read.
    :raises MetaflowQueryError: if there is no such run, or it has no finished task.
    """

    def __init__(self, pathspec: str, *, with_logs: bool = True) -> None:
        from metaflow import Run, namespace
        from metaflow.exception import MetaflowException

        self._with_logs = with_logs
        namespace(None)
        try:
            self._run = Run(pathspec)
        except MetaflowException as error:
            raise MetaflowQueryError(
                f"there is no run {pathspec!r} ({error}).",
                hint="Give Flow/run-id, and the METAFLOW_… settings of the metadata service that knows it.",
                plain=True,
            ) from None
        self._tasks = dict(self._keyed())
        if not self._tasks:
            raise MetaflowQueryError(f"the run {pathspec!r} has no task yet.", hint="Wait for its end.", plain=True)

    def _keyed(self) -> Iterator[tuple[TaskKey, Any]]:
        for step in self._run:
            rounds: dict[str, int] = {}
            for task in sorted(step, key=lambda one: (one.created_at, one.id)):
                path = str(task.metadata_dict.get(_PATH) or "")
                yield (step.id, path, rounds.get(path, 0)), task
                rounds[path] = rounds.get(path, 0) + 1

    def record(self) -> RunRecord:
        """Return what is known of the run."""
        preceding = self._preceding()
        sha = ""
        tasks = {}
        for key, task in self._tasks.items():
            known = task.metadata_dict
            sha = sha or _code_of(known)
            tasks[key] = TaskRecord(
                artifacts={one.id: one.sha for one in task},
                parents=frozenset(_parents(key, preceding.get(key[0], ()), self._tasks)),
                origin=_origin(self._run, key[0], known),
                succeeded=str(known.get("attempt_ok")) == "True",
                stdout=self._lines(task, known, "stdout"),
                stderr=self._lines(task, known, "stderr"),
            )
        return RunRecord(
            pathspec=self._run.pathspec,
            tags=frozenset(self._run.user_tags),
            system_tags=frozenset(self._run.system_tags),
            code=sha,
            tasks=tasks,
            finished=self._run.finished_at is not None,
        )

    def value(self, key: TaskKey, name: str) -> Any:
        """Return the value of an artifact.

        :param key: the task.
        :param name: name of the artifact.
        """
        return self._tasks[key][name].data

    def _preceding(self) -> Mapping[str, tuple[str, ...]]:
        """Return the steps that lead to each step, itself for a recursive one."""
        first = next(iter(self._tasks.values()))
        try:
            steps = first[_GRAPH].data["steps"]
        except KeyError:
            return {}
        return {name: tuple(one for one, facts in steps.items() if name in facts["next"]) for name in steps}

    def _lines(self, task: Any, known: Mapping[str, Any], stream: str) -> tuple[str, ...]:
        if not self._with_logs or not known.get("ds-root"):
            return ()
        from metaflow.client.filecache import FileCache
        from metaflow.mflog.mflog import merge_logs
        from metaflow.util import to_unicode

        attempt = int(known.get("attempt", 0))
        files = FileCache().get_logs_stream(known["ds-type"], known["ds-root"], stream, attempt, *task.path_components)
        # A local run has the lines of the task in the log of its runtime; a container has its set-up there.
        by_source = {name: list(merge_logs([blob])) for name, blob in files}
        lines = by_source.get("task") or by_source.get("runtime") or []
        run_id = self._run.id
        return tuple(to_unicode(line.msg).replace(run_id, "RUN") for line in lines)


def _parents(key: TaskKey, steps: Iterable[str], tasks: Mapping[TaskKey, Any]) -> Iterator[TaskKey]:
    """Yield the tasks of preceding steps whose path agrees with that of a task, as far as both go."""
    step, path, turn = key
    for other in tasks:
        if other[0] not in steps:
            continue
        if other[0] == step or (step in steps and turn):
            # A round of a recursive step follows the one before.
            if other == (step, path, turn - 1):
                yield other
        elif _agree(path, other[1]) and _is_last(other, tasks):
            yield other


def _agree(one: str, other: str) -> bool:
    left, right = one.split(",") if one else [], other.split(",") if other else []
    shorter = min(len(left), len(right))
    return left[:shorter] == right[:shorter] and abs(len(left) - len(right)) <= 1


def _is_last(key: TaskKey, tasks: Mapping[TaskKey, Any]) -> bool:
    return (key[0], key[1], key[2] + 1) not in tasks


def _origin(run: Any, step: str, known: Mapping[str, Any]) -> str:
    parts = [str(known.get(name) or "") for name in ("origin-run-id", "origin-task-id")]
    if not parts[1] or "None" in parts:
        return ""
    flow = run.pathspec.partition("/")[0]
    return f"{flow}/{parts[0]}/{step}/{parts[1]}"


def _code_of(known: Mapping[str, Any]) -> str:
    return str(known.get("code-package-sha") or "")


def equality(left: Reader, right: Reader) -> Equal:
    """Return the function that says whether an artifact has equal values in two runs.

    :param left: the first run.
    :param right: the second run.
    """

    def equal(key: TaskKey, name: str) -> bool:
        ours, theirs = left.value(key, name), right.value(key, name)
        try:
            return bool(ours == theirs)
        except Exception:  # arrays and frames have an equality of their own
            return False

    return equal
