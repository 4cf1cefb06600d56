"""How long tests wait for what should happen."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 2
"""How many times as long as alone on the machine: the tests of two workers share it."""


def wait_until(condition: Callable[[], Any], timeout: float = 60, *, pause: float = 1) -> None:
    """Wait until a condition is true, asking once in `pause` seconds."""
    end = time.monotonic() + PATIENCE * timeout
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(pause)
