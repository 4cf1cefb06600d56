"""Shows the progress of a run: a bar per step on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections import Counter
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from airflow_provider_metaflow.rest.task_instances import ENDED, TaskInstance
from metaflow_orchestration.graph.model import FlowGraph

_BAD = ("failed", "upstream_failed")


class RunProgress:
    """Takes the task instances of a run, time and again, and shows what has changed.

    :param graph: the flow.
    :param console: where to.
    """

    def __init__(self, graph: FlowGraph, console: Console) -> None:
        self._graph = graph
        self._console = console
        self._told: dict[str, str] = {}
        self._bars: dict[str, TaskID] = {}
        self._progress: Progress | None = None
        if console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description:24}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeElapsedColumn(),
                console=console,
            )

    def __enter__(self) -> RunProgress:
        if self._progress is not None:
            self._progress.start()
            for step in self._graph.steps:
                self._bars[step.name] = self._progress.add_task(step.name, total=1, note="", start=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, instances: list[TaskInstance]) -> None:
        """Show the state of all steps.

        :param instances: all task instances of the run.
        """
        for step in self._graph.steps:
            states = Counter(one.state for one in instances if one.task_id.rsplit(".", 1)[-1] == step.name)
            total, done = sum(states.values()), sum(states[state] for state in ENDED)
            note = ", ".join(
                f"{count} {state}" for state, count in sorted(states.items(), key=str) if state not in (None, "success")
            )
            if self._progress is not None:
                bar = self._bars[step.name]
                if any(state not in (None, "scheduled", "queued") for state in states):
                    self._progress.start_task(bar)
                self._progress.update(bar, completed=done, total=max(total, 1), note=note)
                if total and done == total:
                    self._progress.stop_task(bar)
            else:
                self._tell(step.name, done, total, note)

    def _tell(self, step: str, done: int, total: int, note: str) -> None:
        text = f"{done}/{total} {note}".strip()
        worth_it = note or (total and done == total)
        if worth_it and self._told.get(step) != text:
            self._told[step] = text
            self._console.print(f"{step}: {text}", markup=False, highlight=False)
