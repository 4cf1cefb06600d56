"""The overview of a run, for the page in Airflow's web interface. Standard library only, as ``index.py``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .facts import RunFacts
from .previews import is_secret, is_secret_name, preview, shortened

if TYPE_CHECKING:
    from .documents import (
        OverviewAnswer,
        OverviewQuestion,
        ShownArtifact,
        ShownError,
        ShownStep,
        ShownTask,
        StoredArtifact,
        StoredSummary,
    )

MAX_TASKS = 200
_MAX_PARAMETER = 500
_MAX_ERROR = 1000
_HIDDEN = "(hidden: it looks like a secret)"
_INCLUDED_FILE = "metaflow.includefile.IncludedFile"


class Overview:
    """Describes runs.

    :param facts: reads facts of runs.
    :param each: ``map``, or one that asks for several things at the same time.
    """

    def __init__(self, facts: RunFacts, each: Callable[..., Any]) -> None:
        self._facts, self._each = facts, each

    def of(self, flow: str, run: str, question: OverviewQuestion) -> OverviewAnswer:
        """Describe a run.

        :param flow: the flow.
        :param run: the run.
        :param question: ``step``, ``tasks`` and ``max_tasks``, all optional. ``tasks`` are ids of tasks of the step;
            their later generations, the iterations of a recursion and the nodes of a gang count, too.
        """
        left = question.get("max_tasks", MAX_TASKS)
        shown = [
            step
            for step in self._facts.index.steps(flow, run)
            if not step.startswith("_") and question.get("step") in (None, step)
        ]
        tasks: list[list[tuple[str, ...]]] = []
        for step, found in zip(
            shown, self._each(lambda step: self._facts.index.tasks(flow, run, step), shown), strict=True
        ):
            wanted = [one for one in found if is_one_of(one, question.get("tasks"))]
            tasks.append([(flow, run, step, one) for one in wanted[: max(left, 0)]])
            left -= len(wanted)
        described = self._each(self._describe, [path for paths in tasks for path in paths])
        steps: list[ShownStep] = [
            {"step": step, "tasks": [next(described) for _ in paths]} for step, paths in zip(shown, tasks, strict=True)
        ]
        end = self._facts.end_task(flow, run)
        return {
            "exists": True,
            "pathspec": f"{flow}/{run}",
            "finished": end is not None and self._facts.facts(flow, run, *end).is_successful,
            "tags": sorted((self._facts.index.run(flow, run) or {}).get("tags") or ()),
            "parameters": self._parameters(flow, run),
            "steps": steps,
            "complete": left >= 0,
        }

    def _describe(self, path: Sequence[str]) -> ShownTask:
        facts = self._facts.facts(*path)
        found: Mapping[str, StoredArtifact] = {}
        error = None
        if facts.attempt is not None:
            summary = self._facts.summary(path, facts.attempt)
            found = summary["artifacts"] if summary else self._facts.names(path, facts.attempt)
            error = _error_of(summary)
        artifacts = [_shown(name, one) for name, one in sorted(found.items())]
        return {
            "task": path[-1],
            "pathspec": "/".join(path),
            "finished": facts.attempt is not None and not facts.is_running,
            "successful": facts.is_successful,
            "attempt": facts.attempt,
            "error": None if facts.is_running else error,
            "artifacts": artifacts,
            "cards": [{"type": kind, "hash": mark} for kind, mark, _ in self._facts.cards(path)],
        }

    def _parameters(self, flow: str, run: str) -> dict[str, str | None]:
        """Return the parameters' values as texts; None where the run has not written them down."""
        start, _ = self._facts.ends(flow, run)
        for task in self._facts.index.tasks(flow, run, start)[:1]:
            path = (flow, run, start, task)
            attempt = self._facts.facts(*path).attempt
            summary = self._facts.summary(path, attempt) if attempt is not None else None
            names = summary.get("parameters") if summary is not None else None
            if summary is not None and isinstance(names, list):
                artifacts = summary["artifacts"]
                return {str(one): _parameter_text(str(one), artifacts.get(one)) for one in names}
        for task in self._facts.index.tasks(flow, run, "_parameters")[:1]:
            return dict.fromkeys(sorted(self._facts.names((flow, run, "_parameters", task), 0)))
        return {}


def is_one_of(task: str, wanted: Sequence[str] | None) -> bool:
    """Return whether a task is one of those that are asked for.

    :param task: its id.
    :param wanted: ids without the parts for generation, iteration and node; None for all.
    """
    if wanted is None:
        return True
    stem = re.sub(r"[-_](node|worker)[-_]\d+\Z", "", task)
    return bool({stem, re.sub(r"(-r\d+)?(-g\d+)?\Z", "", stem)} & set(wanted))


def _shown(name: str, artifact: StoredArtifact) -> ShownArtifact:
    text = preview(name, artifact["value"]) if "value" in artifact else None
    return {
        "name": name,
        "type": str(artifact.get("type") or ""),
        "size": artifact.get("size"),
        "preview": text,
        "hidden": "value" in artifact and text is None,
    }


def _error_of(summary: StoredSummary | None) -> ShownError | None:
    """Return the exception that ended a failed task; None for one that succeeded or was killed."""
    found = summary.get("error") if summary and summary.get("ok") is not True else None
    if not isinstance(found, dict):
        return None
    kind, message = (str(found.get(name) or "") for name in ("type", "message"))
    return {"type": shortened(kind, 200), "message": _HIDDEN if is_secret(message) else shortened(message, _MAX_ERROR)}


def _parameter_text(name: str, artifact: StoredArtifact | None) -> str | None:
    artifact = artifact or {}
    if "value" in artifact:
        if is_secret_name(name) or is_secret(artifact["value"]):
            return _HIDDEN
        return shortened(repr(artifact["value"]), _MAX_PARAMETER)
    if artifact.get("type") == _INCLUDED_FILE:
        return "(a file)"
    size = artifact.get("size")
    return f"({size} bytes)" if isinstance(size, int) else None
