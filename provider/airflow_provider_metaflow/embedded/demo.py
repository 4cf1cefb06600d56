"""``make demo``: an example flow on an Airflow of its own, from compile to artifacts; ``OPEN=1`` leaves it open."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from metaflow_orchestration.compile.compiler import CompileOptions, load_manifest
from metaflow_orchestration.compile.processes.environment import user_name

from .airflow import USER, EmbeddedAirflow
from .trial import Trial, run_trial

_FLOW = Path("dags_examples/flows/demo.py")


def main() -> int:
    """Run the demo in the folder ``.demo`` below the current one; return the exit status."""
    console = Console()
    folder = Path(os.environ.get("DEMO_HOME", ".demo")).resolve()
    os.environ["METAFLOW_DATASTORE_SYSROOT_LOCAL"] = str(folder)
    os.environ["METAFLOW_USER"] = user_name(os.environ, "demo")
    os.environ["METAFLOW_HOME"] = str(folder / "metaflow-config")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    console.print(f"Compiling {_FLOW}", highlight=False)
    manifest = load_manifest(_FLOW.resolve(), CompileOptions(python=sys.executable), folder / "metaflow")
    stay_open = _stay_open(console) if os.environ.get("OPEN", "") not in ("", "0") else None
    trial = run_trial(manifest, {}, folder, stay_open)
    _show_steps(console, trial)
    if trial.state != "success":
        return 1
    _show_artifacts(console, trial)
    _show_files(console, folder)
    return 0


def _stay_open(console: Console) -> Callable[[EmbeddedAirflow, str], None]:
    def wait(airflow: EmbeddedAirflow, page: str) -> None:
        console.print(f"The run: {page}", highlight=False, soft_wrap=True)
        password = json.loads(airflow.passwords.read_text())[USER]
        console.print(f"Log in as {USER} with the password {password}", highlight=False, soft_wrap=True)
        console.print("Press Ctrl-C to stop this Airflow.")
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()

    return wait


def _show_files(console: Console, folder: Path) -> None:
    console.print("Files:")
    for what, where in (
        ("flow", _FLOW),
        ("DAG file and manifest", folder / "dags"),
        ("runs and artifacts", folder / ".metaflow"),
        ("logs of tasks", folder / "logs"),
        ("password of the web interface", folder / "simple_auth_manager_passwords.json"),
    ):
        console.print(f"  {what}: {where}", highlight=False, soft_wrap=True)


def _show_steps(console: Console, trial: Trial) -> None:
    table = Table(title=f"Steps of {trial.pathspec}")
    for column in ("step", "task instances", "tries", "seconds", "states"):
        table.add_column(column, justify="left" if column in ("step", "states") else "right")
    for name, tasks, tries, seconds, states in trial.rows:
        table.add_row(name, str(tasks), str(tries), f"{seconds:.1f}", states)
    console.print(table)


def _show_artifacts(console: Console, trial: Trial) -> None:
    """Read results back as a data scientist would, through Metaflow's client."""
    import metaflow

    metaflow.namespace(None)
    run = metaflow.Run(trial.pathspec)
    table = Table(title="Artifacts of its end step, read through Metaflow's client")
    table.add_column("artifact")
    table.add_column("value")
    for artifact in run.end_task.artifacts:
        table.add_row(artifact.id, repr(artifact.data))
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
