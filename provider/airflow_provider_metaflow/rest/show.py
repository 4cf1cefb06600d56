"""Shows deployments and runs on a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import TypedDict

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from metaflow_orchestration.exceptions import InvalidOptionError

from . import dags, runs, task_instances, task_logs
from .client import AirflowClient
from .deployment import DeployedDag
from .runs import DagRun

_WATCH_SECONDS = 1.0
_WIDTH_OF_A_FILE = 200
"""Where there is no terminal, ids must not be folded: scripts read them."""


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH_OF_A_FILE)


def status(deployed: DeployedDag, run: DagRun, *, watch: bool = False, quiet: bool = False) -> DagRun:
    """Show how far a run is, with a progress bar for each step.

    :param deployed: the deployment.
    :param run: the run.
    :param watch: go on until the run has ended.
    :param quiet: print nothing.
    :returns: the run as it was shown last.
    :raises InvalidOptionError: if the run is deleted meanwhile.
    """
    console = Console(quiet=True) if quiet else _console()
    if not watch:
        console.print(_status(deployed, run))
        return run
    with Live(_status(deployed, run), console=console, auto_refresh=False) as live:
        while run.state not in runs.FINISHED:
            time.sleep(_WATCH_SECONDS)
            found = runs.get_run(deployed.client, run.dag_id, run.dag_run_id)
            if found is None:
                raise InvalidOptionError(
                    f"the run {run.dag_run_id} of {run.dag_id} was deleted before it ended.", flow=deployed.record.flow
                )
            run = runs.with_reported_id(deployed.client, found, deployed.start_step)
            live.update(_status(deployed, run), refresh=True)
    return run


def _status(deployed: DeployedDag, run: DagRun) -> RenderableType:
    counts = task_instances.count_states(deployed.client, run, deployed.record.steps)
    table = Table(box=None)
    for column in ("Step", "", "Tasks", "States"):
        table.add_column(column)
    for step in deployed.record.steps:
        states = counts[step]
        total = sum(states.values())
        ended = sum(states.get(state, 0) for state in task_instances.ENDED)
        text = ", ".join(f"{count} {state or 'waiting'}" for state, count in sorted(states.items(), key=str))
        bar = ProgressBar(total=max(total, 1), completed=ended, width=24)
        table.add_row(Text(step), bar, f"{ended}/{total}", text)
    head = Text(f"{deployed.record.flow}/{run.run_id}: {run.status}{_duration(run)}", style="bold")
    return Group(head, Text(deployed.url(run)), table)


class RunDocument(TypedDict):
    """A run, for ``--json``; times are in ISO 8601."""

    run: str
    status: str
    started: str | None
    ended: str | None
    airflow_run: str


class StepDocument(TypedDict):
    """A step of a run: how many tasks are in each of Airflow's states."""

    step: str
    tasks: dict[str, int]


class StatusDocument(RunDocument):
    """How far a run is, for ``--json``."""

    url: str
    steps: list[StepDocument]


def status_document(deployed: DeployedDag, run: DagRun) -> StatusDocument:
    """Return how far a run is, for ``--json``.

    :param deployed: the deployment.
    :param run: the run.
    """
    counts = task_instances.count_states(deployed.client, run, deployed.record.steps)
    steps: list[StepDocument] = [
        {"step": step, "tasks": {state or "waiting": count for state, count in counts[step].items()}}
        for step in deployed.record.steps
    ]
    return {**_run_document(deployed, run), "url": deployed.url(run), "steps": steps}


def runs_document(deployed: DeployedDag, states: tuple[str, ...], limit: int) -> list[RunDocument]:
    """Return the newest runs of a deployment, for ``--json``; see :func:`show_runs`."""
    return [_run_document(deployed, run) for run in list_of_runs(deployed, states, limit)]


def _run_document(deployed: DeployedDag, run: DagRun) -> RunDocument:
    return {
        "run": f"{deployed.record.flow}/{run.run_id}",
        "status": run.status,
        "started": run.start.isoformat() if run.start else None,
        "ended": run.end.isoformat() if run.end else None,
        "airflow_run": run.dag_run_id,
    }


def list_of_runs(deployed: DeployedDag, states: tuple[str, ...], limit: int) -> Iterator[DagRun]:
    """Yield the newest runs of a deployment.

    :param deployed: the deployment.
    :param states: Airflow states to choose; default: all.
    :param limit: how many.
    """
    found = islice(runs.list_runs(deployed.client, deployed.name, states), limit)
    return (runs.with_reported_id(deployed.client, run, deployed.start_step) for run in found)


def show_runs(deployed: DeployedDag, states: tuple[str, ...], limit: int) -> None:
    """Show the newest runs of a deployment; the steps of those that are running, too.

    :param deployed: the deployment.
    :param states: Airflow states to choose; default: all.
    :param limit: how many.
    """
    console = _console()
    table = Table(box=None)
    for column in ("Run", "Status", "Started", "Steps", "Airflow run"):
        table.add_column(column, overflow="fold")
    any_run = False
    for run in list_of_runs(deployed, states, limit):
        any_run = True
        started = run.start.strftime("%Y-%m-%d %H:%M:%S") if run.start else ""
        table.add_row(Text(run.run_id), run.status, started, _steps(deployed, run), Text(run.dag_run_id))
    console.print(table if any_run else f"{deployed.name} has no such runs.", highlight=False)


def _steps(deployed: DeployedDag, run: DagRun) -> RenderableType:
    total = len(deployed.record.steps)
    if run.state == "success":
        return ProgressBar(total=total, completed=total, width=16)
    counts = task_instances.count_states(deployed.client, run, deployed.record.steps)
    done = sum(bool(states) and set(states) <= {"success", "skipped"} for states in counts.values())
    return ProgressBar(total=total, completed=done, width=16)


def logs(deployed: DeployedDag, run: DagRun, step: str | None, *, failed_only: bool, every_line: bool = False) -> None:
    """Print the logs of a run's tasks.

    :param deployed: the deployment.
    :param run: the run.
    :param step: only of this step.
    :param failed_only: only of tasks that failed.
    :param every_line: also the lines of Airflow itself; else those of the steps, and errors.
    :raises InvalidOptionError: if there is no such step.
    """
    if step is not None and step not in deployed.record.steps:
        raise InvalidOptionError(
            f"has no step {step!r}.",
            flow=deployed.record.flow,
            hint=f"Steps are: {', '.join(deployed.record.steps)}.",
        )
    console = Console(soft_wrap=True)
    order = {name: number for number, name in enumerate(deployed.record.steps)}
    found = task_instances.task_instances(deployed.client, run.dag_id, run.dag_run_id)
    for one in sorted(found, key=lambda one: (order.get(one.task_id, len(order)), one.map_index)):
        if (step is not None and one.task_id != step) or not one.try_number or one.state == "skipped":
            continue
        if failed_only and one.state != "failed":
            continue
        index = f"[{one.map_index}]" if one.map_index >= 0 else ""
        console.print(Text(f"== {one.task_id}{index}, try {one.try_number}: {one.state}", style="bold"))
        text = task_logs.task_log(
            deployed.client,
            run.dag_id,
            run.dag_run_id,
            one.task_id,
            try_number=one.try_number,
            map_index=one.map_index,
            every_line=every_line,
        )
        console.print(text, markup=False, highlight=False)


def deployments_document(client: AirflowClient, flow: str | None) -> list[dict[str, str]]:
    """Return what is deployed, for ``--json``.

    :param client: the Airflow.
    :param flow: only deployments of this flow.
    """
    return [
        {
            "deployment": dag.dag_id,
            "flow": dag.record.flow,
            "owner": dag.record.owner,
            "branch": f"{dag.record.project}.{dag.record.branch}" if dag.record.project else "",
            "state": "paused" if dag.is_paused else "active",
        }
        for dag in dags.list_dags(client)
        if dag.record is not None and not dag.is_stale and flow in (None, dag.record.flow)
    ]


def deployments(client: AirflowClient, flow: str | None) -> None:
    """Show what is deployed; see :func:`deployments_document`."""
    table = Table(box=None)
    for column in ("Deployment", "Flow", "Owner", "Branch", "State"):
        table.add_column(column, overflow="fold")
    for one in deployments_document(client, flow):
        table.add_row(*map(Text, one.values()))
    _console().print(table)


def _duration(run: DagRun) -> str:
    return f" after {(run.end - run.start).total_seconds():.0f} s" if run.start and run.end else ""
