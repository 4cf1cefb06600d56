"""How long tests wait for what should happen."""

from __future__ import annotations

PATIENCE = 2
"""How many times as long as alone on the machine: the tests of two workers share it."""
