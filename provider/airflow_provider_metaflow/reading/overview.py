"""The overview of a run, for the page in Airflow's web interface. Standard library only, as ``index.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .facts import RunFacts

MAX_TASKS = 200
_MAX_PARAMETER = 500
_INCLUDED_FILE = "metaflow.includefile.IncludedFile"


class Overview:
    """Describes runs.

    :param facts: reads facts of runs.
    :param each: ``map``, or one that asks for several things at the same time.
    """

    def __init__(self, facts: RunFacts, each: Callable[..., Any]) -> None:
        self._facts, self._each = facts, each

    def of(self, flow: str, run: str, question: Mapping[str, Any]) -> dict[str, Any]:
        """Describe a run.

        :param flow: the flow.
        :param run: the run.
        :param question: ``step`` and ``max_tasks``, both optional.
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
            tasks.append([(flow, run, step, one) for one in found[: max(left, 0)]])
            left -= len(found)
        described = self._each(self._describe, [path for paths in tasks for path in paths])
        steps = [
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

    def _describe(self, path: Sequence[str]) -> dict[str, Any]:
        facts = self._facts.facts(*path)
        found: Mapping[str, Any] = {}
        if facts.attempt is not None:
            summary = self._facts.summary(path, facts.attempt)
            found = summary["artifacts"] if summary else self._facts.names(path, facts.attempt)
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
            "cards": [{"type": kind, "hash": mark} for kind, mark, _ in self._facts.cards(path)],
        }

    def _parameters(self, flow: str, run: str) -> dict[str, str | None]:
        """Return the parameters' values as texts; None where the run has not written them down."""
        start, _ = self._facts.ends(flow, run)
        for task in self._facts.index.tasks(flow, run, start)[:1]:
            path = (flow, run, start, task)
            attempt = self._facts.facts(*path).attempt
            summary = self._facts.summary(path, attempt) if attempt is not None else None
            if summary is not None and isinstance(summary.get("parameters"), list):
                artifacts = summary["artifacts"]
                return {str(one): _parameter_text(artifacts.get(one) or {}) for one in summary["parameters"]}
        for task in self._facts.index.tasks(flow, run, "_parameters")[:1]:
            return dict.fromkeys(sorted(self._facts.names((flow, run, "_parameters", task), 0)))
        return {}


def _parameter_text(artifact: Mapping[str, Any]) -> str | None:
    if "value" in artifact:
        return repr(artifact["value"])[:_MAX_PARAMETER]
    if artifact.get("type") == _INCLUDED_FILE:
        return "(a file)"
    size = artifact.get("size")
    return f"({size} bytes)" if isinstance(size, int) else None
