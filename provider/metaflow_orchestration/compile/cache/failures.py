"""Remembers for a short time that a flow did not compile, so that not each parse of a DAG file tries it again."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from metaflow_orchestration.documents.structs import built
from metaflow_orchestration.exceptions import FlowCompileError

_ERROR_SECONDS = 30.0
"""For how long an error counts; what it depends on outside of the flow's files may have changed then."""

_HANG_SECONDS = 300.0
"""For how long it counts that a compile hung."""

_LONG_SECONDS = 20.0
"""A compile that ran for less before its parent was killed counts as interrupted by chance, e.g. by a restart."""


@built
class _Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why an attempt has failed, and in seconds since 1970 when it began; no message while it runs."""

    began: float
    message: str | None = None
    flow: str | None = None
    step: str | None = None
    hint: str | None = None
    hung: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """The last attempt to compile a flow with given options.

    Its file is made when the attempt starts, touched while it runs, and removed when it has succeeded. So it stays if
    the whole process is killed, as Airflow's DAG processor does with a parse that takes too long.

    :param file: where it is kept.
    """

    file: Path

    def check(self) -> None:
        """Check that the last attempt did not fail a short time ago.

        :raises FlowCompileError: the error of that attempt again.
        """
        try:
            state = self.file.stat()
            failure = msgspec.json.decode(self.file.read_bytes(), type=_Failure)
        except (OSError, msgspec.DecodeError):
            return
        age = time.time() - state.st_mtime
        if failure.message is not None:
            left = (_HANG_SECONDS if failure.hung else _ERROR_SECONDS) - age
            if left > 0:
                hint = f"{failure.hint or ''} (This is remembered; it is compiled again in {left:.0f} s.)".strip()
                raise FlowCompileError(failure.message, flow=failure.flow, step=failure.step, hint=hint)
            return
        ran = state.st_mtime - failure.began
        if ran >= _LONG_SECONDS and age < _HANG_SECONDS:
            raise FlowCompileError(
                f"compiling it was cut off after {ran:.0f} s; it is tried again in {_HANG_SECONDS - age:.0f} s.",
                flow=failure.flow,
                hint="Look for what takes long when the flow file is imported, or deploy the flow with "
                "`python FLOW.py airflow create`, which needs no compile when the DAG file is parsed.",
            )

    def running_seconds(self) -> float:
        """Return since when the attempt runs; 0 if none does."""
        try:
            failure = msgspec.json.decode(self.file.read_bytes(), type=_Failure)
        except (OSError, msgspec.DecodeError):
            return 0.0
        return time.time() - failure.began if failure.message is None else 0.0

    def begin(self, flow: str) -> None:
        """Note that an attempt begins.

        :param flow: what to call the flow in an error.
        """
        self._write(_Failure(began=time.time(), flow=flow))

    def beat(self) -> None:
        """Note that the attempt still runs."""
        with contextlib.suppress(OSError):
            os.utime(self.file)

    def fail(self, error: FlowCompileError, *, hung: bool) -> None:
        """Note that the attempt has failed.

        :param error: why.
        :param hung: whether time was up.
        """
        where = {"flow": error.flow, "step": error.step, "hint": error.hint}
        self._write(_Failure(began=time.time(), message=error.message, hung=hung, **where))

    def succeed(self) -> None:
        """Forget the attempt."""
        with contextlib.suppress(OSError):
            self.file.unlink()

    def _write(self, failure: _Failure) -> None:
        with contextlib.suppress(OSError):
            self.file.touch(mode=0o600)
            self.file.write_bytes(msgspec.json.encode(failure))
