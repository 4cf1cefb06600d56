"""Talks to the process that runs Metaflow tasks (``task_runner.py`` of the Metaflow extension)."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import subprocess
import tempfile
from typing import Any, Protocol, TypeVar

import msgspec

from metaflow_orchestration.exceptions import StepNotRunnableError

from .runner_process import RunnerSettings, runner_command, runner_environment
from .warm_runner import connect_warm

log = logging.getLogger(__name__)

_Answer = TypeVar("_Answer", bound=msgspec.Struct)


class LineWriter(Protocol):
    """Takes one line of a task's output."""

    def __call__(self, stream: str, text: str) -> None:
        """Take a line of ``stdout`` or ``stderr``."""


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
                self._socket = connect_warm(self._settings)
            except OSError as error:
                log.warning("No warm process could be used (%s); starting one for this task.", error)
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

    def call(self, request: bytes, answer: type[_Answer], on_line: LineWriter) -> _Answer:
        """Send a request and return the ``end`` event that answers it.

        :param request: what :func:`~.request.encoded` has made.
        :param answer: what the answer is, see ``answers.py``.
        :param on_line: gets each line that the task writes.
        :raises StepNotRunnableError: if the runner dies without an answer, or answers something else.
        """
        try:
            self._send(request)
            for line in self._lines():
                event = json.loads(line)
                if event["event"] == "line":
                    on_line(event["stream"], event["text"])
                elif "error" in event:
                    raise StepNotRunnableError(f"the task could not be started:\n{event['error']}")
                else:
                    return _read(event, answer)
        except (BrokenPipeError, ConnectionResetError):
            pass
        raise StepNotRunnableError(
            f"the process that runs Metaflow ({self._settings.python}) ended without an answer. {self._errors()}",
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

    def _errors(self) -> str:
        if self._stderr is None:
            return ""
        self._stderr.seek(0)
        return str(self._stderr.read()[-2000:].decode("utf-8", "replace").strip())

    def _start_cold(self) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the process)
        try:
            self._process = subprocess.Popen(
                runner_command(self._settings),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=runner_environment(self._settings),
                start_new_session=True,
            )
        except OSError as error:
            raise StepNotRunnableError(
                f"the interpreter {self._settings.python!r} cannot be started ({error.strerror}).",
                hint="Name one that exists on the worker, or none to use Airflow's own.",
            ) from error


def _read(event: Any, answer: type[_Answer]) -> _Answer:
    try:
        return msgspec.convert(event, answer)
    except msgspec.ValidationError as error:
        raise StepNotRunnableError(
            f"the process that runs Metaflow has answered what this release does not know ({error}).",
            hint="Its code comes with the flow: deploy the flow again, with the release that the worker has.",
        ) from None
