"""Runs a command and leaves none of its processes behind. A script of its own: ``supervisor.py PARENT COMMAND…``.

It ends the command with all its descendants when the command has ended, when it gets SIGTERM, and when the process that
started it is gone. Imports nothing but the standard library, for it starts before every compile.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
"""Numbers of ``linux/prctl.h``."""

_POLL_SECONDS = 0.05


def main(parent: int, command: list[str]) -> int:
    """Run the command and return its exit status, as a shell gives it.

    :param parent: id of the process that started this one.
    :param command: the command, as an argument list.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    tie_to_parent()
    # In a session of its own: whatever stays in its process group is found.
    process = subprocess.Popen(command, start_new_session=True)
    try:
        while (status := process.poll()) is None:
            if os.getppid() != parent:
                return 128 + signal.SIGTERM
            time.sleep(_POLL_SECONDS)
        return status if status >= 0 else 128 - status
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kill_adopted()


def tie_to_parent() -> None:
    """Get SIGTERM when the parent dies, and adopt descendants whose parents have ended, where Linux has that."""
    if sys.platform != "linux":
        return
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_adopted() -> None:
    """Kill the descendants that have left the process group; each that dies may hand its own children to us."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    with contextlib.suppress(OSError):
        while found := children.read_text().split():
            for child in map(int, found):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(child, 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
