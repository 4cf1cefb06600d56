"""How a process that runs Metaflow tasks is started: its command, and the environment that it and its steps get."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from metaflow_orchestration.exceptions import StepNotRunnableError

from .code import PACKAGED_METAFLOW

_EXTENSION = Path("metaflow_extensions/airflow_provider_metaflow/plugins/orchestrator/task/task_runner.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerSettings:
    """How runner processes are started.

    :param python: interpreter of the steps.
    :param root: unpacked code package.
    :param base: environment of the worker. A runner that is kept serves many steps, and starts with nothing that
        only one of them may see.
    :param environment: environment of the steps; each gets it with its request. Variables that shape the interpreter
        or Metaflow's configuration are those of the runner, too.
    :param warm: keep one runner per kind of environment alive between tasks.
    :param idle_seconds: after how long without a task a warm runner exits.
    """

    python: str
    root: Path
    base: Mapping[str, str]
    environment: Mapping[str, str]
    warm: bool
    idle_seconds: float


def step_environment(base: Mapping[str, str], root: Path) -> dict[str, str]:
    """Return an environment in which the packaged Metaflow is the one that gets imported.

    :param base: environment of the worker.
    :param root: unpacked code package.
    """
    packaged = str(root / PACKAGED_METAFLOW)
    environment = dict(base)
    rest = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = f"{packaged}{os.pathsep}{rest}" if rest else packaged
    environment["METAFLOW_EXTRACTED_ROOT"] = str(root)
    environment["PYTHONUNBUFFERED"] = "x"
    return environment


def runner_command(settings: RunnerSettings) -> list[str]:
    """Return the command line of a runner process.

    :param settings: how to start it.
    :raises StepNotRunnableError: if the Metaflow extension is not installed.
    """
    return [settings.python, str(runner_file())]


def runner_file() -> Path:
    """Return the program of runner processes.

    :raises StepNotRunnableError: if the Metaflow extension is not installed.
    """
    for folder in (Path(__file__).parents[3], *map(Path, sys.path)):
        if (folder / _EXTENSION).exists():
            return folder / _EXTENSION
    raise StepNotRunnableError(
        "the Metaflow extension of airflow-provider-metaflow is missing.", hint="Install the package again."
    )


def _shapes_process(name: str) -> bool:
    """Whether a variable takes effect when the interpreter starts or when Metaflow is imported."""
    if name.startswith("METAFLOW_ORCHESTRATOR_") or name in _PER_TASK:
        return False
    return name in _SHAPING or name.startswith(("METAFLOW_", "PYTHON", "LD_", "LC_", "MALLOC_"))


_SHAPING = frozenset({"HOME", "LANG", "LANGUAGE"})
"""Metaflow's configuration is looked for in the home."""

_PER_TASK = frozenset(
    {
        "METAFLOW_CODE_METADATA",
        "METAFLOW_CODE_SHA",
        "METAFLOW_CODE_URL",
        "METAFLOW_RETRY_COUNT",
        "METAFLOW_RUN_ID",
        "METAFLOW_STEP_NAME",
        "METAFLOW_TASK_ID",
    }
)
"""Metaflow reads them when it needs them."""


def process_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a process must be started with, for a task to find them in effect.

    :param environment: environment of the task.
    """
    return {name: value for name, value in sorted(environment.items()) if _shapes_process(name)}


def runner_environment(settings: RunnerSettings) -> dict[str, str]:
    """Return the environment of a runner: the worker's, without what Airflow sets for its task, and what shapes it.

    :param settings: how to start it.
    """
    base = {
        name: value
        for name, value in settings.base.items()
        if not name.startswith("AIRFLOW_CTX_") and not _shapes_process(name)
    }
    return {**base, **process_variables(settings.environment)}
