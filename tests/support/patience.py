"""How long tests wait for what should happen."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

_PATIENCE = 2
"""How many times as long as alone on the machine: the tests of two workers share it."""

_MOST_SECONDS = 900
"""What hangs must not take all the time that there is for all tests."""


def patient(seconds: float) -> float:
    """Return how long to wait for what takes at most so long on a machine that does nothing else."""
    return min(_PATIENCE * seconds, _MOST_SECONDS)


def wait_until(condition: Callable[[], Any], timeout: float = 60, *, pause: float = 1) -> None:
    """Wait until a condition is true, asking once in `pause` seconds."""
    end = time.monotonic() + patient(timeout)
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(pause)
