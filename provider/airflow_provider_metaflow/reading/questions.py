"""Answers questions about Metaflow's runs from documents that are plain JSON.

A *question* is a JSON object ``{"op": NAME, …}``, and so is its answer. The facts come from an :class:`Index` (what is
registered with the metadata provider) and a :class:`Store` (what tasks have written beside their artifacts, see
``task_summary.py`` of the Metaflow extension). Standard library only: the process of ``process.py`` loads this file,
too, and its interpreter need not have this package.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

SUMMARY = "orchestrator_summary.json"
"""As in ``task_summary.py``."""

MAX_SUMMARY_BYTES = 4 * 1024 * 1024
"""Larger summaries, those of very wide foreachs, are not shown."""

MAX_TASKS = 200
_MAX_PARAMETER = 500
_INCLUDED_FILE = "metaflow.includefile.IncludedFile"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@+=-]{0,255}")


class CannotAnswerError(Exception):
    """The question has no answer; the message says why."""


class NotFoundError(Exception):
    """What the question is about does not exist; the message names it."""


class TooLargeError(Exception):
    """A document is larger than the limit; ``size`` has its size in bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(f"{size} bytes")
        self.size = size


class Metadatum(NamedTuple):
    """One piece of metadata of a task.

    :param field: its name.
    :param value: its value.
    :param attempt: the attempt that registered it, if known.
    """

    field: str
    value: str
    attempt: int | None


def metadatum(one: Mapping[str, Any]) -> Metadatum:
    """Return a piece of metadata as Metaflow's providers have it.

    :param one: its JSON object.
    """
    tags = [str(tag).partition(":") for tag in one.get("tags") or ()]
    numbers = [int(value) for name, _, value in tags if name == "attempt_id" and value.isdecimal()]
    return Metadatum(str(one.get("field_name")), str(one.get("value")), numbers[0] if numbers else None)


class Index(Protocol):
    """What is registered with the metadata provider."""

    def run(self, flow: str, run: str) -> Mapping[str, Any] | None:
        """Return ``tags`` and ``system_tags`` of a run, None if there is none."""

    def steps(self, flow: str, run: str) -> Sequence[str]:
        """Return the steps of a run that have started, the first to start first."""

    def tasks(self, flow: str, run: str, step: str) -> Sequence[str]:
        """Return the tasks of a step, the first to start first."""

    def metadata(self, flow: str, run: str, step: str, task: str) -> Sequence[Metadatum]:
        """Return the metadata of a task about its attempts and the graph."""


class Store(Protocol):
    """What tasks have written."""

    def document(self, path: Sequence[str], limit: int) -> Any:
        """Return the JSON document at a path below the root; None if there is none."""

    def names(self, path: Sequence[str]) -> Sequence[str]:
        """Return the names of the files in a folder below the root."""

    def text(self, path: Sequence[str], limit: int) -> str | None:
        """Return the text at a path below the root; None if there is none."""


class Facts(NamedTuple):
    """How a task stands: its last attempt that is over, whether that succeeded, and whether another has started."""

    attempt: int | None
    is_ok: bool
    is_running: bool

    @property
    def is_successful(self) -> bool:
        """Whether the task is over and has succeeded."""
        return self.attempt is not None and self.is_ok and not self.is_running


class _Once:
    """An ``Index`` that asks another one each thing once, for the time of one question.

    :param index: the other one.
    """

    def __init__(self, index: Index) -> None:
        self.run, self.steps = lru_cache(None)(index.run), lru_cache(None)(index.steps)
        self.tasks, self.metadata = lru_cache(None)(index.tasks), lru_cache(None)(index.metadata)


class _CardsOfRun:
    """A ``Store`` that knows the cards of a run from one listing, where the other one has ``below``.

    :param store: the other one.
    :param flow: the flow.
    :param run: the run.
    """

    def __init__(self, store: Store, flow: str, run: str) -> None:
        self.document, self.text, self._store = store.document, store.text, store
        self._folder = ["mf.cards", flow, "runs", run]
        below = getattr(store, "below", None)
        self._paths: list[str] | None = below(self._folder) if below else None

    def names(self, path: Sequence[str]) -> Sequence[str]:
        """Return the names of the files in a folder below the root."""
        if self._paths is None or list(path[: len(self._folder)]) != self._folder:
            return self._store.names(path)
        folder = "/".join(path[len(self._folder) :])
        return sorted(name for parent, _, name in (one.rpartition("/") for one in self._paths) if parent == folder)


class Reader:
    """Answers questions.

    :param index: what is registered.
    :param store: what tasks have written.
    :param pool: asks for what lies apart at the same time, where each request takes a while; default: one by one.
    """

    def __init__(self, index: Index, store: Store, pool: Executor | None = None) -> None:
        self._index, self._store, self._pool = index, store, pool
        self._each = map if pool is None else pool.map

    def prepare(self) -> None:
        """Ask for something that does not exist, so that connections are open when a question comes."""
        self._store.document(["_"], 1)
        self._store.names(["_"])
        self._index.run("_", "0")

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to a question; ``error`` holds one sentence if there is none.

        :param question: ``op`` is one of ``run``, ``artifact``, ``overview``, ``card``; see the methods below.
        """
        operations: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "run": self._run,
            "artifact": self._artifact,
            "overview": self._overview,
            "card": self._card,
        }
        try:
            return operations[question["op"]](question)
        except NotFoundError as error:
            return {"exists": False, "message": str(error)}
        except CannotAnswerError as error:
            return {"error": str(error), "transient": False, "plain": True}
        except OSError as error:
            return {"error": f"{type(error).__name__}: {error.strerror or error}", "transient": True}

    def _run(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Tell whether a run has finished. ``pathspec``: ``Flow/run``."""
        flow, run = self._parts(question, 2)
        end = self._end_task(flow, run)
        is_done = end is not None and self._facts(flow, run, *end).is_successful
        return {"exists": True, "finished": is_done, "successful": is_done}

    def _artifact(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Read the artifact ``name`` if it has at most ``max_bytes``.

        ``pathspec`` names a run (then its end task counts), a step (its only task) or a task.
        With ``"value": false`` tell only whether it is there.
        """
        name, limit = str(question["name"]), question["max_bytes"]
        missing = {"exists": False, "message": f"{question['pathspec']} has no artifact {name}"}
        path = self._task(question)
        if path is None:
            return missing
        facts = self._facts(*path)
        pathspec = "/".join(path)
        if not facts.is_successful:
            return missing
        summary = self._summary(path, facts.attempt)
        artifacts = summary["artifacts"] if summary else self._names(path, facts.attempt)
        found = artifacts.get(name)
        if found is None:
            return missing
        if not question.get("value", True):
            return {"exists": True, "task": pathspec}
        if isinstance(found.get("size"), int) and found["size"] > limit:
            raise CannotAnswerError(
                f"artifact {name} of {pathspec} is {found['size']} bytes large; the limit is {limit}"
            )
        if "value" not in found:
            raise CannotAnswerError(f"artifact {name} of {pathspec} {_why_no_value(summary is not None)}")
        size = len(json.dumps(found["value"]))
        if size > limit:
            raise CannotAnswerError(
                f"artifact {name} of {pathspec} is {size} bytes large as JSON; the limit is {limit}"
            )
        return {"exists": True, "value": found["value"], "task": pathspec}

    def _overview(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Describe the run ``pathspec``, or only its ``step``: parameters, and per task artifacts and cards."""
        index = _Once(self._index)
        flow, run = Reader(index, self._store)._parts(question, 2)
        once = Reader(index, _CardsOfRun(self._store, flow, run), self._pool)
        return once._overview_of(flow, run, question)

    def _overview_of(self, flow: str, run: str, question: Mapping[str, Any]) -> dict[str, Any]:
        left = question.get("max_tasks", MAX_TASKS)
        shown = [
            step
            for step in self._index.steps(flow, run)
            if not step.startswith("_") and question.get("step") in (None, step)
        ]
        tasks: list[list[tuple[str, ...]]] = []
        for step, found in zip(shown, self._each(lambda step: self._index.tasks(flow, run, step), shown), strict=True):
            tasks.append([(flow, run, step, one) for one in found[: max(left, 0)]])
            left -= len(found)
        described = self._each(self._describe, [path for paths in tasks for path in paths])
        steps = [
            {"step": step, "tasks": [next(described) for _ in paths]} for step, paths in zip(shown, tasks, strict=True)
        ]
        end = self._end_task(flow, run)
        return {
            "exists": True,
            "pathspec": f"{flow}/{run}",
            "finished": end is not None and self._facts(flow, run, *end).is_successful,
            "tags": sorted((self._index.run(flow, run) or {}).get("tags") or ()),
            "parameters": self._parameters(flow, run),
            "steps": steps,
            "complete": left >= 0,
        }

    def _describe(self, path: Sequence[str]) -> dict[str, Any]:
        facts = self._facts(*path)
        found: Mapping[str, Any] = {}
        if facts.attempt is not None:
            summary = self._summary(path, facts.attempt)
            found = summary["artifacts"] if summary else self._names(path, facts.attempt)
        artifacts = [
            {"name": name, "type": str(one.get("type") or ""), "size": one.get("size")}
            for name, one in sorted(found.items())
        ]
        return {
            "task": path[-1],
            "pathspec": "/".join(path),
            "finished": facts.attempt is not None and not facts.is_running,
            "successful": facts.is_successful,
            "artifacts": artifacts,
            "cards": [{"type": kind, "hash": mark} for kind, mark, _ in self._cards(path)],
        }

    def _parameters(self, flow: str, run: str) -> dict[str, str | None]:
        """Return the parameters' values as texts; None where the run has not written them down."""
        start, _ = self._ends(flow, run)
        for task in self._index.tasks(flow, run, start)[:1]:
            path = (flow, run, start, task)
            attempt = self._facts(*path).attempt
            summary = self._summary(path, attempt) if attempt is not None else None
            if summary is not None and isinstance(summary.get("parameters"), list):
                artifacts = summary["artifacts"]
                return {str(one): _parameter_text(artifacts.get(one) or {}) for one in summary["parameters"]}
        for task in self._index.tasks(flow, run, "_parameters")[:1]:
            return dict.fromkeys(sorted(self._names((flow, run, "_parameters", task), 0)))
        return {}

    def _card(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Return the HTML of a card. ``pathspec`` of a task, ``hash``, ``max_bytes``."""
        path = self._parts(question, 4)
        limit = question["max_bytes"]
        for _, mark, name in self._cards(path):
            if mark == question["hash"]:
                try:
                    html = self._store.text([*_card_folder(path), name], limit)
                except TooLargeError as error:
                    raise CannotAnswerError(f"the card is {error.size} bytes large; the limit is {limit}") from None
                if html is not None:
                    return {"exists": True, "html": html}
        raise NotFoundError("there is no such card")

    def _cards(self, path: Sequence[str]) -> list[tuple[str, str, str]]:
        """Return type, hash and file name of each card of a task."""
        found = []
        for name in self._store.names(_card_folder(path)):
            stem, _, suffix = name.rpartition(".")
            parts = stem.split("-")
            # TYPE-HASH or TYPE-ID-HASH, see `metaflow.plugins.cards.card_datastore`.
            if suffix == "html" and len(parts) in (2, 3):
                found.append((parts[0], parts[-1], name))
        return sorted(found)

    def _parts(self, question: Mapping[str, Any], *depths: int) -> tuple[str, ...]:
        """Return the parts of a pathspec whose run exists in the namespace of the question."""
        pathspec = str(question["pathspec"])
        parts = tuple(pathspec.split("/"))
        if len(parts) not in depths or not all(_NAME.fullmatch(one) for one in parts):
            forms = ["Flow", "run", "step", "task"]
            wanted = " or ".join("/".join(forms[:depth]) for depth in depths)
            raise CannotAnswerError(f"{pathspec!r} is not of the form {wanted}")
        run = self._index.run(parts[0], parts[1])
        if run is None:
            raise NotFoundError(f"there is no run {parts[0]}/{parts[1]}")
        namespace = question.get("namespace")
        if namespace and namespace not in {*(run.get("tags") or ()), *(run.get("system_tags") or ())}:
            raise CannotAnswerError(f"the run {parts[0]}/{parts[1]} is not in the namespace {namespace}")
        return parts

    def _task(self, question: Mapping[str, Any]) -> tuple[str, ...] | None:
        parts = self._parts(question, 2, 3, 4)
        if len(parts) == 2:
            end = self._end_task(parts[0], parts[1])
            return None if end is None else (*parts, *end)
        if len(parts) == 3:
            tasks = self._index.tasks(*parts)
            if len(tasks) > 1:
                raise CannotAnswerError(f"{question['pathspec']} has {len(tasks)} tasks; name one of them")
            return (*parts, tasks[0]) if tasks else None
        return parts if parts[3] in self._index.tasks(*parts[:3]) else None

    def _end_task(self, flow: str, run: str) -> tuple[str, str] | None:
        _, end = self._ends(flow, run)
        tasks = self._index.tasks(flow, run, end)
        return (end, tasks[-1]) if tasks else None

    def _ends(self, flow: str, run: str) -> tuple[str, str]:
        """Return the names of the first and the last step, which the ``init`` command has registered."""
        for task in self._index.tasks(flow, run, "_parameters")[:1]:
            known = {one.field: one.value for one in self._index.metadata(flow, run, "_parameters", task)}
            names = known.get("start_step") or "start", known.get("end_step") or "end"
            if all(_NAME.fullmatch(name) for name in names):
                return names
        return "start", "end"

    def _facts(self, flow: str, run: str, step: str, task: str) -> Facts:
        metadata = self._index.metadata(flow, run, step, task)
        done = [int(one.value) for one in metadata if one.field == "attempt-done" and one.value.isdecimal()]
        started = [int(one.value) for one in metadata if one.field == "attempt" and one.value.isdecimal()]
        if not done:
            return Facts(None, is_ok=False, is_running=True)
        last = max(done)
        marks = [one.value for one in metadata if one.field == "attempt_ok" and one.attempt in (None, last)]
        return Facts(last, is_ok=bool(marks) and marks[-1] == "True", is_running=max(started, default=0) > last)

    def _summary(self, path: Sequence[str], attempt: int | None) -> dict[str, Any] | None:
        """Return the summary of a task; None if it has written none that can be read."""
        try:
            found = self._store.document([*path, f"{attempt}.{SUMMARY}"], MAX_SUMMARY_BYTES)
        except TooLargeError:
            return None
        if not isinstance(found, dict) or found.get("version") != 1 or not isinstance(found.get("artifacts"), dict):
            return None
        known = {str(name): one for name, one in found["artifacts"].items() if isinstance(one, dict)}
        return {**found, "artifacts": known}

    def _names(self, path: Sequence[str], attempt: int | None) -> dict[str, dict[str, Any]]:
        """Return types and sizes of the artifacts as Metaflow's own index of a task has them."""
        try:
            found = self._store.document([*path, f"{attempt}.data.json"], MAX_SUMMARY_BYTES)
        except TooLargeError:
            return {}
        infos = found.get("info") if isinstance(found, dict) else None
        return {
            name: {"type": _type_name(one.get("type")), "size": one.get("size")}
            for name, one in (infos if isinstance(infos, dict) else {}).items()
            if isinstance(one, dict) and not name.startswith("_") and name != "name"
        }


def _type_name(text: Any) -> str:
    return str(text or "").removeprefix("<class '").removesuffix("'>")


def _card_folder(path: Sequence[str]) -> list[str]:
    flow, run, step, task = path
    return ["mf.cards", flow, "runs", run, "steps", step, "tasks", task, "cards"]


def _parameter_text(artifact: Mapping[str, Any]) -> str | None:
    if "value" in artifact:
        return repr(artifact["value"])[:_MAX_PARAMETER]
    if artifact.get("type") == _INCLUDED_FILE:
        return "(a file)"
    size = artifact.get("size")
    return f"({size} bytes)" if isinstance(size, int) else None


def _why_no_value(has_summary: bool) -> str:
    if has_summary:
        return "cannot be expressed in JSON, or is larger than what a task writes down (48 KiB a value, 64 KiB in all)"
    return (
        "was not written down as JSON by its task, and pickled artifacts are not loaded here; run the flow with this "
        "version of airflow-provider-metaflow, or with `--with orchestrator_internal`"
    )
