"""Runs a command in a child process that ends with this one, and of which nothing is left behind."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from . import supervisor

_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.02
_BEAT_SECONDS = 1.0
_MOST_OUTPUT_BYTES = 64 * 1024**2
_MOST_TEXT_BYTES = 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a command has ended.

    :param status: its exit status; above 128 for a signal.
    :param stdout: what it wrote.
    :param stderr: what it wrote there.
    """

    status: int
    stdout: str
    stderr: str


def run_supervised(
    command: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    seconds: float,
    beat: Callable[[], None] = lambda: None,
) -> Finished:
    """Run a command; when this function returns or raises, and when this process dies, all its processes are gone.

    :param command: the command, as an argument list.
    :param folder: its working directory.
    :param environment: its environment.
    :param seconds: how long it may take.
    :param beat: called about once a second while it runs.
    :raises OSError: if it cannot be started.
    :raises subprocess.TimeoutExpired: if it takes longer.
    """
    program = _program(command[0], folder, environment)
    # Files and no pipes: who inherits a pipe and lives on would keep us waiting.
    with output_file() as stdout, output_file() as stderr:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", supervisor.__file__, str(os.getpid()), program, *command[1:]],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            status = wait_for(process.poll, seconds, beat, (stdout, stderr))
        finally:
            _stop(process)
        if status is None:
            raise subprocess.TimeoutExpired(list(command), seconds)
        return Finished(status=status, stdout=text_of(stdout), stderr=text_of(stderr))


def _program(name: str, folder: Path, environment: Mapping[str, str]) -> str:
    """Return the path of a program, as ``execvpe`` finds it."""
    import shutil

    found = shutil.which(str(folder / name) if os.sep in name else name, path=environment.get("PATH", os.defpath))
    if found is None:
        raise FileNotFoundError(2, "No such file or directory", name)
    return found


def output_file() -> IO[bytes]:
    """Return a file for the output of a process, which :func:`wait_for` keeps small."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  (the caller closes it)
    # Each write goes to the end of what is there, also after it was cut.
    fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_APPEND)
    return file


def wait_for(
    poll: Callable[[], int | None], seconds: float, beat: Callable[[], None], outputs: Sequence[IO[bytes]] = ()
) -> int | None:
    """Wait until a process has ended; return its status, None if it takes longer.

    :param poll: returns the status, None while it runs.
    :param seconds: how long to wait.
    :param beat: called about once a second meanwhile.
    :param outputs: files that the process writes to; a flow that prints without end must not fill the disk.
    """
    end = time.monotonic() + seconds
    next_beat = 0.0
    while (status := poll()) is None:
        now = time.monotonic()
        if now > end:
            return None
        if now > next_beat:
            beat()
            next_beat = now + _BEAT_SECONDS
        for file in outputs:
            if os.fstat(file.fileno()).st_size > _MOST_OUTPUT_BYTES:
                # What comes last says what went wrong.
                os.ftruncate(file.fileno(), 0)
        time.sleep(_POLL_SECONDS)
    return status


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def text_of(file: IO[bytes]) -> str:
    """Return what a process has written to a file; of much output the end.

    :param file: the file.
    """
    file.seek(max(0, os.fstat(file.fileno()).st_size - _MOST_TEXT_BYTES))
    return file.read().decode("utf-8", "replace")
