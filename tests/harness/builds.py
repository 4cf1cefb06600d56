"""Builds in the background: tests that need none of them run meanwhile, and fixtures wait for what they need."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]

FOLDER = "TEST_BUILDS"
"""The environment variable that names the folder of logs and results to tests; without it nothing is being built."""

_LINES = 40

Steps = Mapping[str, Sequence[Sequence[str]]]
"""Commands by the name of the build, in their order."""


class BuildFailedError(RuntimeError):
    """What a test needs could not be built."""


class Builds:
    """Runs builds one after the other, a step below the tests in priority; a context manager that ends them."""

    def __init__(self, folder: Path, steps: Steps) -> None:
        self.folder = folder
        self.seconds: dict[str, float] = {}
        self._steps = steps
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = False
        # Or a process that starts while the command ends would be left to itself.
        self._starting = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Builds:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "pid").write_text(str(os.getpid()))
        for name in self._steps:
            (self.folder / f"{name}.log").touch()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._starting:
            self._ended = True
            if self._process is not None and self._process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGTERM)
        self._thread.join()

    def _run(self) -> None:
        for name, commands in self._steps.items():
            began = time.monotonic()
            code = 0
            with (self.folder / f"{name}.log").open("wb") as log:
                for command in commands:
                    code = code or self._step(command, log.fileno())
            self.seconds[name] = round(time.monotonic() - began, 1)
            part = self.folder / f"{name}.part"
            part.write_text(str(code))
            part.rename(self.folder / f"{name}.result")

    def _step(self, command: Sequence[str], log: int) -> int:
        with self._starting:
            if self._ended:
                return 1
            self._process = subprocess.Popen(
                ["nice", "-n", "5", *command],
                cwd=ROOT,
                env={**os.environ, "PYTHON": sys.executable},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self._process.wait()


def ready(name: str) -> bool:
    """Whether a build has ended, or none of that name was started."""
    folder = os.environ.get(FOLDER)
    return folder is None or not (Path(folder) / f"{name}.log").exists() or (Path(folder) / f"{name}.result").exists()


def wait(name: str) -> None:
    """Wait until a build has ended.

    :param name: as in the `Steps` of `Builds`.
    :raises BuildFailedError: with the last lines of its log.
    """
    if FOLDER not in os.environ:
        return
    folder = Path(os.environ[FOLDER])
    if not ended_well(name, folder):
        raise BuildFailedError(f"The build of {name} failed:\n{_end_of(folder / f'{name}.log')}")


def ended_well(name: str, folder: Path) -> bool:
    """Wait until a build has ended; return whether it has done so without an error, or was never started.

    :param name: as in the `Steps` of `Builds`.
    :param folder: that of `Builds`.
    :raises BuildFailedError: if the command that has started it is gone.
    """
    result = folder / f"{name}.result"
    while (folder / f"{name}.log").exists() and not result.exists():
        _check_alive(folder, name)
        time.sleep(0.2)
    return not result.exists() or result.read_text() == "0"


def _check_alive(folder: Path, name: str) -> None:
    try:
        os.kill(int((folder / "pid").read_text()), 0)
    except ProcessLookupError:
        message = f"The build of {name} ended with the command that started it:\n{_end_of(folder / f'{name}.log')}"
        raise BuildFailedError(message) from None


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LINES:])
