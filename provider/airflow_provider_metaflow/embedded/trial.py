"""Runs a compiled flow once on an embedded Airflow: the work behind ``airflow test`` and ``make demo``."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_metaflow.deploy import dag_file
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import MissingExtraError
from metaflow_orchestration.graph.identity import airflow_run_id

if TYPE_CHECKING:
    from rich.console import Console

    from airflow_provider_metaflow.rest.client import AirflowClient
    from airflow_provider_metaflow.rest.runs import DagRun
    from airflow_provider_metaflow.rest.task_instances import TaskInstance

    from .airflow import EmbeddedAirflow

_LOG_CHARACTERS = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How a trial run ended.

    :param state: ``success`` or ``failed``.
    :param pathspec: Metaflow's ``Flow/run``.
    :param rows: per step: name, tasks, tries, seconds of work, states.
    """

    state: str
    pathspec: str
    rows: tuple[tuple[str, int, int, float, str], ...]


def run_once(manifest: Manifest, parameters: Mapping[str, object], home: str | None) -> bool:
    """Run a flow and show its progress on the terminal.

    :param manifest: the compiled flow.
    :param parameters: values by parameter name, as JSON types.
    :param home: folder of the Airflow; None uses a temporary one.
    :raises MissingExtraError: if Airflow is not installed here.
    """
    check_airflow(manifest.graph.name)
    folder = Path(home).resolve() if home else Path(tempfile.mkdtemp(prefix="metaflow-airflow-"))
    try:
        return run_trial(manifest, parameters, folder).state == "success"
    finally:
        if home is None:
            shutil.rmtree(folder, ignore_errors=True)


def check_airflow(flow: str) -> None:
    """Check that Airflow is installed here.

    :param flow: flow to name in the error.
    :raises MissingExtraError: if it is not.
    """
    try:
        version("apache-airflow-core")
    except PackageNotFoundError:
        raise MissingExtraError(
            "`airflow test` starts an Airflow of its own, and Airflow is not installed here.",
            flow=flow,
            hint='Install it: pip install "airflow-provider-metaflow[airflow]"',
        ) from None


def run_trial(
    manifest: Manifest,
    parameters: Mapping[str, object],
    folder: Path,
    afterwards: Callable[[EmbeddedAirflow, str], None] | None = None,
) -> Trial:
    """Deploy a flow to an embedded Airflow in a folder, run it there, and stop that Airflow.

    :param manifest: the compiled flow.
    :param parameters: values by parameter name.
    :param folder: folder of the Airflow.
    :param afterwards: is called before that Airflow stops, with it and the address of the page of the run.
    """
    from rich.console import Console

    from airflow_provider_metaflow.rest import dags, runs, task_instances

    from .airflow import USER, EmbeddedAirflow
    from .progress import RunProgress

    console = Console()
    name = manifest.deployment.name
    console.print(f"Starting Airflow in {folder}", highlight=False)
    embedded = EmbeddedAirflow(home=folder)
    embedded.make_folders()
    # Before the start: the DAG processor looks at the folder at once, and then after seconds only.
    pools = list(dag_file.write(embedded.dags / f"{name}.py", manifest))
    with embedded as airflow:
        # Writing warns of a pool that the flow asks for; here there is an Airflow to make it in.
        if pools:
            airflow.run("pools", "import", str(airflow.dags / f"{name}.pools.json"))
        dags.wait_for_dag(airflow.client, name)
        dags.set_paused(airflow.client, name, paused=False)
        run = runs.trigger(airflow.client, name, f"test__{time.time_ns()}", parameters)
        dag_run = run.dag_run_id
        pathspec = f"{manifest.graph.name}/{airflow_run_id(name, dag_run)}"
        console.print(f"Run {pathspec}; web interface: {airflow.url}", highlight=False)
        console.print(f"Log in as {USER} with the password in {airflow.passwords}", highlight=False, soft_wrap=True)
        with RunProgress(manifest.graph, console) as progress:
            state = runs.wait_for_run(airflow.client, name, dag_run, timeout=7 * 86400, watch=progress.show)
        instances = task_instances.task_instances(airflow.client, name, dag_run)
        _print_failures(airflow.client, run, instances, console)
        if afterwards is not None:
            afterwards(airflow, f"{airflow.url}/dags/{name}/runs/{dag_run}")
    console.print(f"Run {pathspec}: {state}", highlight=False)
    rows = tuple(_row(step.name, instances) for step in manifest.graph.steps)
    return Trial(state=state, pathspec=pathspec, rows=rows)


def _print_failures(client: AirflowClient, run: DagRun, instances: Sequence[TaskInstance], console: Console) -> None:
    """Print the ends of the logs of failed task instances."""
    from airflow_provider_metaflow.rest import task_logs

    for one in instances:
        if one.state == "failed":
            console.rule(f"{one.task_id} [{one.map_index}] failed")
            text = task_logs.task_log(
                client,
                run.dag_id,
                run.dag_run_id,
                one.task_id,
                try_number=one.try_number,
                map_index=one.map_index,
            )
            console.print(text[-_LOG_CHARACTERS:], markup=False, highlight=False)


def _row(step: str, instances: Sequence[TaskInstance]) -> tuple[str, int, int, float, str]:
    """Return what a report says of a step: name, tasks, tries, seconds of work, states."""
    own = [one for one in instances if one.task_id == step]
    states = sorted({str(one.state) for one in own})
    tries, seconds = sum(one.try_number for one in own), sum(one.duration or 0 for one in own)
    return step, len(own), tries, seconds, ", ".join(states)
