"""The facts of runs and tasks: states of attempts, summaries, and cards. Standard library only, as ``index.py``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from .index import CannotAnswerError, Facts, Index, NotFoundError, Store, TooLargeError

if TYPE_CHECKING:
    from .documents import RunQuestion, StoredArtifact, StoredSummary

SUMMARY = "orchestrator_summary.json"
VERSION = 1
"""As in ``task_summary.py``."""

MAX_SUMMARY_BYTES = 4 * 1024 * 1024
"""Larger summaries, those of very wide foreachs, are not shown."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@+=-]{0,255}")


class RunFacts:
    """Reads facts.

    :param index: what is registered.
    :param store: what tasks have written.
    """

    def __init__(self, index: Index, store: Store) -> None:
        self.index, self.store = index, store

    def parts(self, question: RunQuestion, *depths: int) -> tuple[str, ...]:
        """Return the parts of a pathspec whose run exists in the namespace of the question."""
        pathspec = str(question["pathspec"])
        parts = tuple(pathspec.split("/"))
        if len(parts) not in depths or not all(_NAME.fullmatch(one) for one in parts):
            forms = ["Flow", "run", "step", "task"]
            wanted = " or ".join("/".join(forms[:depth]) for depth in depths)
            raise CannotAnswerError(f"{pathspec!r} is not of the form {wanted}")
        run = self.index.run(parts[0], parts[1])
        if run is None:
            raise NotFoundError(f"there is no run {parts[0]}/{parts[1]}")
        namespace = question.get("namespace")
        if namespace and namespace not in {*(run.get("tags") or ()), *(run.get("system_tags") or ())}:
            raise CannotAnswerError(f"the run {parts[0]}/{parts[1]} is not in the namespace {namespace}")
        return parts

    def task(self, question: RunQuestion) -> tuple[str, ...] | None:
        """Return the parts of the pathspec of a task that a question names, None if there is none."""
        parts = self.parts(question, 2, 3, 4)
        if len(parts) == 2:
            end = self.end_task(parts[0], parts[1])
            return None if end is None else (*parts, *end)
        if len(parts) == 3:
            tasks = self.index.tasks(*parts)
            if len(tasks) > 1:
                raise CannotAnswerError(f"{question['pathspec']} has {len(tasks)} tasks; name one of them")
            return (*parts, tasks[0]) if tasks else None
        return parts if parts[3] in self.index.tasks(*parts[:3]) else None

    def end_task(self, flow: str, run: str) -> tuple[str, str] | None:
        """Return step and task of the end of a run, None if it has not begun."""
        _, end = self.ends(flow, run)
        tasks = self.index.tasks(flow, run, end)
        return (end, tasks[-1]) if tasks else None

    def ends(self, flow: str, run: str) -> tuple[str, str]:
        """Return the names of the first and the last step, which the ``init`` command has registered."""
        for task in self.index.tasks(flow, run, "_parameters")[:1]:
            known = {one.field: one.value for one in self.index.metadata(flow, run, "_parameters", task)}
            names = known.get("start_step") or "start", known.get("end_step") or "end"
            if all(_NAME.fullmatch(name) for name in names):
                return names
        return "start", "end"

    def facts(self, flow: str, run: str, step: str, task: str) -> Facts:
        """Return how a task stands."""
        metadata = self.index.metadata(flow, run, step, task)
        done = [int(one.value) for one in metadata if one.field == "attempt-done" and one.value.isdecimal()]
        started = [int(one.value) for one in metadata if one.field == "attempt" and one.value.isdecimal()]
        if not done:
            return Facts(None, is_ok=False, is_running=True)
        last = max(done)
        marks = [one.value for one in metadata if one.field == "attempt_ok" and one.attempt in (None, last)]
        return Facts(last, is_ok=bool(marks) and marks[-1] == "True", is_running=max(started, default=0) > last)

    def summary(self, path: Sequence[str], attempt: int | None) -> StoredSummary | None:
        """Return the summary of a task; None if it has written none that can be read."""
        try:
            found = self.store.document([*path, f"{attempt}.{SUMMARY}"], MAX_SUMMARY_BYTES)
        except TooLargeError:
            return None
        if (
            not isinstance(found, dict)
            or found.get("version") != VERSION
            or not isinstance(found.get("artifacts"), dict)
        ):
            return None
        known = {str(name): one for name, one in found["artifacts"].items() if isinstance(one, dict)}
        return cast("StoredSummary", {**found, "artifacts": known})

    def names(self, path: Sequence[str], attempt: int | None) -> dict[str, StoredArtifact]:
        """Return types and sizes of the artifacts as Metaflow's own index of a task has them."""
        try:
            found = self.store.document([*path, f"{attempt}.data.json"], MAX_SUMMARY_BYTES)
        except TooLargeError:
            return {}
        infos = found.get("info") if isinstance(found, dict) else None
        return {
            name: {"type": _type_name(one.get("type")), "size": one.get("size")}
            for name, one in (infos if isinstance(infos, dict) else {}).items()
            if isinstance(one, dict) and not name.startswith("_") and name != "name"
        }

    def cards(self, path: Sequence[str]) -> list[tuple[str, str, str]]:
        """Return type, hash and file name of each card of a task."""
        found = []
        for name in self.store.names(card_folder(path)):
            stem, _, suffix = name.rpartition(".")
            parts = stem.split("-")
            # TYPE-HASH or TYPE-ID-HASH, see `metaflow.plugins.cards.card_datastore`.
            if suffix == "html" and len(parts) in (2, 3):
                found.append((parts[0], parts[-1], name))
        return sorted(found)


def _type_name(text: Any) -> str:
    return str(text or "").removeprefix("<class '").removesuffix("'>")


def card_folder(path: Sequence[str]) -> list[str]:
    """Return where the cards of a task are, as names of folders below the root of the datastore.

    :param path: flow, run, step and task.
    """
    flow, run, step, task = path
    return ["mf.cards", flow, "runs", run, "steps", step, "tasks", task, "cards"]
