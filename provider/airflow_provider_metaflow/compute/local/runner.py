"""Talks to the process that runs Metaflow tasks (``task_runner.py`` of the Metaflow extension)."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from metaflow_orchestration.exceptions import StepNotRunnableError

from .code import PACKAGED_METAFLOW

log = logging.getLogger(__name__)

_EXTENSION = Path("metaflow_extensions/airflow_provider_metaflow/plugins/orchestrator/task/task_runner.py")
_START_SECONDS = 60.0


class LineWriter(Protocol):
    """Takes one line of a task's output."""

    def __call__(self, stream: str, text: str) -> None:
        """Take a line of ``stdout`` or ``stderr``."""


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


class Runner:
    """A session with a runner process; a context manager that leaves nothing running behind.

    :param settings: how to start it.
    """

    def __init__(self, settings: RunnerSettings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._stderr: Any = None

    def __enter__(self) -> Runner:
        if self._settings.warm:
            try:
                self._socket = _connect_warm(self._settings)
            except OSError as error:
                log.warning("No warm process could be had (%s); starting one for this task.", error)
        if self._socket is None:
            self._start_cold()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up, which kills a task that still runs, and wait until it is gone."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)
                self._socket.settimeout(30)
                while self._socket.recv(1 << 16):
                    pass
            self._socket.close()
            self._socket = None
        if self._process is not None:
            process, self._process = self._process, None
            if process.stdin is not None:
                process.stdin.close()
            if process.stdout is not None:
                while process.stdout.read(1 << 16):
                    pass
                process.stdout.close()
            process.wait()

    def call(self, request: Mapping[str, Any], on_line: LineWriter) -> dict[str, Any]:
        """Send a request and return the ``end`` event that answers it.

        :param request: see ``task_runner.py``.
        :param on_line: takes each line that the task writes.
        :raises StepNotRunnableError: if the runner dies without an answer.
        """
        data = json.dumps(request).encode() + b"\n"
        try:
            self._send(data)
            for line in self._lines():
                event: dict[str, Any] = json.loads(line)
                if event["event"] == "line":
                    on_line(event["stream"], event["text"])
                elif "error" in event:
                    raise StepNotRunnableError(f"the task could not be started:\n{event['error']}")
                else:
                    return event
        except (BrokenPipeError, ConnectionResetError):
            pass
        raise StepNotRunnableError(
            f"the process that runs Metaflow ({self._settings.python}) ended without an answer. {self._epitaph()}",
            hint="Check that this interpreter exists on the worker and can import metaflow and requests.",
        )

    def _send(self, data: bytes) -> None:
        if self._socket is not None:
            self._socket.sendall(data)
        elif self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(data)
            self._process.stdin.flush()

    def _lines(self) -> Any:
        if self._socket is not None:
            return self._socket.makefile("rb")
        assert self._process is not None  # noqa: S101  (entered)
        return iter(self._process.stdout.readline, b"") if self._process.stdout else iter(())

    def _epitaph(self) -> str:
        if self._stderr is None:
            return ""
        self._stderr.seek(0)
        return str(self._stderr.read()[-2000:].decode("utf-8", "replace").strip())

    def _start_cold(self) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the process)
        try:
            self._process = subprocess.Popen(
                _command(self._settings),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=_runner_environment(self._settings),
                start_new_session=True,
            )
        except OSError as error:
            raise StepNotRunnableError(
                f"the interpreter {self._settings.python!r} cannot be started ({error.strerror}).",
                hint="Name one that exists on the worker, or none to use Airflow's own.",
            ) from error


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


def _command(settings: RunnerSettings) -> list[str]:
    return [settings.python, str(_runner_file())]


def _runner_file() -> Path:
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


def _runner_environment(settings: RunnerSettings) -> dict[str, str]:
    """Return the environment of a runner: the worker's, without what Airflow sets for its task, and what shapes it."""
    base = {
        name: value
        for name, value in settings.base.items()
        if not name.startswith("AIRFLOW_CTX_") and not _shapes_process(name)
    }
    return {**base, **process_variables(settings.environment)}


def _key(settings: RunnerSettings) -> str:
    shaping = process_variables(settings.environment)
    runner = _runner_file()
    identity = [settings.python, str(settings.root), str(runner), runner.stat().st_mtime_ns, shaping]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:20]


def _socket_folder() -> Path:
    """Return the folder of the sockets, which only this user may enter (paths of sockets end at 107 bytes)."""
    folder = Path(tempfile.gettempdir()) / f"metaflow-airflow-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    state = folder.lstat()
    if state.st_uid != os.getuid() or state.st_mode & 0o077 or folder.is_symlink():
        raise OSError(f"{folder} is not private to this user")
    return folder


def _connect_warm(settings: RunnerSettings) -> socket.socket:
    base = _socket_folder() / _key(settings)
    path = f"{base}.sock"
    connection = _try_connect(path)
    if connection is not None:
        return connection
    with Path(f"{base}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        connection = _try_connect(path)
        if connection is not None:
            return connection
        with Path(f"{base}.log").open("wb") as output:
            server = subprocess.Popen(
                [*_command(settings), "--serve", path, "--idle", str(settings.idle_seconds)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_runner_environment(settings),
                cwd="/",
                start_new_session=True,
            )
        return _await(lambda: _try_connect(path), server)


def _await(connect: Callable[[], socket.socket | None], server: subprocess.Popen[bytes]) -> socket.socket:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        connection = connect()
        if connection is not None:
            return connection
        if server.poll() is not None:
            raise OSError(f"it exited with status {server.returncode}")
        time.sleep(0.01)
    server.kill()
    raise OSError(f"it did not answer within {_START_SECONDS:.0f} s")


def _try_connect(path: str) -> socket.socket | None:
    """Return a connection to a runner that answers, None if there is none or it exits just now."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(_START_SECONDS)
    try:
        connection.connect(path)
        ready = connection.recv(1)
    except (FileNotFoundError, ConnectionRefusedError, ConnectionResetError):
        ready = b""
    except BaseException:
        connection.close()
        raise
    if not ready:
        connection.close()
        return None
    connection.settimeout(None)
    return connection
