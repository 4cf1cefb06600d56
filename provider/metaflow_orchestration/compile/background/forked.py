"""Compiles a flow in a fork of this process, which has imported Metaflow already."""

from __future__ import annotations

import atexit
import contextlib
import gc
import inspect
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import IO, NoReturn

from metaflow_orchestration.compile.cache.keys import extensions
from metaflow_orchestration.compile.flow_process import watched
from metaflow_orchestration.compile.inputs import recorder
from metaflow_orchestration.compile.processes.supervised import Finished, output_file, text_of, wait_for
from metaflow_orchestration.compile.processes.supervisor import kill_adopted, tie_to_parent

_GROUPS = "metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli"

_IMPORTED = (
    "metaflow", "metaflow.cli_components.utils", "metaflow.client", "metaflow.lint", "metaflow.package",
    "metaflow.plugins.argo.argo_workflows", "metaflow.plugins.argo.argo_workflows_cli",
    "metaflow.plugins.aws.batch.batch_cli", "metaflow.plugins.aws.step_functions.production_token",
    "metaflow.plugins.aws.step_functions.step_functions", "metaflow.plugins.cards.card_cli",
    "metaflow.plugins.cards.metadata", "metaflow.plugins.kubernetes.spot_metadata_cli",
    "metaflow.plugins.package_cli", "metaflow.plugins.tag_cli", "metaflow.pylint_wrapper", "metaflow.task",
    f"{_GROUPS}.airflow.group", "metaflow_orchestration.compile.deployment.manifest",
    "metaflow_orchestration.compile.deployment.tokens",
    "metaflow_orchestration.compile.flow_process.shared_manifests",
    "metaflow_orchestration.compile.reading.container_settings", "metaflow_orchestration.documents.manifest",
    "metaflow_orchestration.graph.validate",
)  # fmt: skip
"""And not ``metaflow.cli``: what a flow's decorators add to its options is read when that is imported."""


def prepare() -> None:
    """Import and make what each compile needs. Metaflow reads its settings from this process's environment."""
    for name in _IMPORTED:
        import_module(name)
    import_module("metaflow_orchestration.compile.deployment.archive").prepare()
    recorder.prepare()
    extensions()
    # Compiles the patterns of ``tokenize``, by which Metaflow finds the source of each step.
    inspect.getsourcelines(prepare)
    # A collection in a fork would look at, and so copy, all that is here.
    gc.collect()
    gc.freeze()


def run_forked(
    command: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    seconds: float,
    beat: Callable[[], None] = lambda: None,
) -> Finished:
    """Run a compile; when this function returns or raises, all its processes are gone.

    This process adopts what they leave behind (:func:`~.supervisor.tie_to_parent`), and runs nothing beside it.

    :param command: the interpreter, ``-c``, a program that only calls :func:`~.watched.main`, and its arguments.
    :param folder: its working directory.
    :param environment: its environment.
    :param seconds: how long it may take.
    :param beat: called about once a second while it runs.
    :raises subprocess.TimeoutExpired: if it takes longer.
    """
    with output_file() as stdout, output_file() as stderr:
        child = os.fork()
        if child == 0:
            _run(command[3:], folder, environment, stdout, stderr)
        status = None
        try:
            status = wait_for(lambda: _poll(child), seconds, beat, (stdout, stderr))
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child, signal.SIGKILL)
            if status is None:
                os.waitpid(child, 0)
            kill_adopted()
        if status is None:
            raise subprocess.TimeoutExpired(list(command), seconds)
        return Finished(status=status, stdout=text_of(stdout), stderr=text_of(stderr))


def _poll(child: int) -> int | None:
    """Return how a child has ended, as a shell gives it; None while it runs."""
    ended, status = os.waitpid(child, os.WNOHANG)
    if not ended:
        return None
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _run(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], stdout: IO[bytes], stderr: IO[bytes]
) -> NoReturn:
    """Be the child: run the program, and end as the interpreter does, but for clearing away all modules."""
    status = 1
    try:
        os.setsid()
        for one in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(one, signal.SIG_DFL)
        tie_to_parent()
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        with Path(os.devnull).open("rb") as nothing:
            for number, file in enumerate((nothing, stdout, stderr)):
                os.dup2(file.fileno(), number)
        sys.argv = ["-c", *arguments]
        status = _called(watched.main)
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status & 0xFF)


def _called(program: Callable[[], None]) -> int:
    """Call a program and return the exit status that the interpreter would have ended with."""
    try:
        program()
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        sys.stderr.write(f"{error.code}\n")
        return 1
    except BaseException:  # as the interpreter does
        traceback.print_exc()
        return 1
    return 0
