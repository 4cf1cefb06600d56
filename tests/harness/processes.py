"""Refuses the start of processes in unit tests without the marker `subprocess`, so that `make quick` stays quick."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_EVENTS = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "os.exec"})
"""Audit events of the interpreter: https://docs.python.org/3/library/audit_events.html."""

_ASKING = frozenset({"platform", "ctypes.util"})
"""Modules of the standard library that ask small programs about the machine, once, for whoever imports a library."""


class ProcessStartError(RuntimeError):
    """A test that may start no process has started one."""


class ProcessGuard:
    """An audit hook, which an interpreter keeps for ever; it refuses only while a test is watched."""

    def __init__(self) -> None:
        self._watched: str | None = None
        self._refused: list[str] = []
        self._pid = os.getpid()
        sys.addaudithook(self._hook)

    @contextmanager
    def watch(self, test: str) -> Iterator[None]:
        """Refuse processes in a test.

        :param test: its node id.
        :raises ProcessStartError: at the start of a process, and at the end if the test has caught that error.
        """
        before = self._watched, self._refused
        self._watched, self._refused = test, []
        try:
            yield
        finally:
            refused = self._refused
            self._watched, self._refused = before
        if refused:
            raise ProcessStartError(refused[0])

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Let shared fixtures prepare what many tests read."""
        watched, self._watched = self._watched, None
        try:
            yield
        finally:
            self._watched = watched

    def _hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if self._watched is None or event not in _EVENTS or os.getpid() != self._pid:
            return
        if _asks_about_the_machine(sys._getframe(1)):
            return
        what = str(arguments[1] if len(arguments) > 1 else event)[:200]
        message = f"{self._watched} starts a process ({what}): mark it `subprocess`, and `make quick` leaves it out."
        self._refused.append(message)
        raise ProcessStartError(message)


def _asks_about_the_machine(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals.get("__name__") in _ASKING:
            return True
        frame = frame.f_back
    return False


GUARD = ProcessGuard()
