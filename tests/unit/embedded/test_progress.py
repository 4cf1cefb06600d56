"""How a run goes on: bars on a terminal, one line per change elsewhere."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from airflow_provider_metaflow.embedded.progress import RunProgress
from airflow_provider_metaflow.rest.task_instances import TaskInstance
from metaflow_orchestration.documents.manifest import Manifest


def instances(step: str, *states: str | None) -> list[TaskInstance]:
    return [
        TaskInstance(task_id=step, map_index=index, state=state, try_number=1, duration=1.0, label=None)
        for index, state in enumerate(states)
    ]


def test_each_change_is_one_line_where_there_is_no_terminal(recorded: Callable[[str], Manifest]) -> None:
    output = io.StringIO()
    with RunProgress(recorded("foreach").graph, Console(file=output, width=200)) as progress:
        for states in (
            (None, None), ("running", None), ("running", None), ("success", "failed"), ("success", "success")
        ):  # fmt: skip
            progress.show(instances("upper", *states))
        progress.show(instances("a_group.gather", "success"))
    assert output.getvalue().splitlines() == [
        "upper: 0/2 1 running",
        "upper: 2/2 1 failed",
        "upper: 2/2",
        "gather: 1/1",
    ]


@pytest.mark.extended
def test_a_terminal_shows_a_bar_for_each_step(recorded: Callable[[str], Manifest]) -> None:
    output = io.StringIO()
    console = Console(file=output, width=120, force_terminal=True)
    with RunProgress(recorded("foreach").graph, console) as progress:
        progress.show([*instances("start", "success"), *instances("upper", "running", "queued")])
        progress.show(instances("upper", "success", "failed"))
    shown = output.getvalue()
    for told in ("start", "upper", "gather", "2/2", "1 failed"):
        assert told in shown


@pytest.mark.parametrize("states", [(), (None,), ("queued",)])
def test_a_step_that_has_not_begun_is_not_done(recorded: Callable[[str], Manifest], states: tuple[str, ...]) -> None:
    output = io.StringIO()
    with RunProgress(recorded("foreach").graph, Console(file=output)) as progress:
        progress.show(instances("upper", *states))
    assert "1/1" not in output.getvalue()
