"""Runs a module of the packaged Metaflow that is no task, in a process group of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from .runner import LineWriter

_LINE_CHARACTERS = 64 * 1024
"""Longer lines are shown in parts."""


class ModuleProcess:
    """At most one process at a time, which :meth:`kill` ends with all that it has started."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(self, command: Sequence[str], folder: Path, environment: Mapping[str, str], on_line: LineWriter) -> int:
        """Run a command and return its exit status.

        :param command: the command, as an argument list.
        :param folder: its working directory.
        :param environment: its environment.
        :param on_line: gets each line that it writes.
        """
        process = subprocess.Popen(
            list(command),
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._process = process
        try:
            # A line without an end comes in parts.
            for line in iter(partial(process.stdout.readline, _LINE_CHARACTERS), "") if process.stdout else ():
                on_line("stdout", line.rstrip("\n"))
            return process.wait()
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill the process if it runs, with its whole group, so that nothing that it started is left behind."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
