"""The guard of the quick layer against processes."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress

import pytest
from tests.harness.processes import GUARD, ProcessStartError


def test_a_process_is_refused_with_the_marker_that_allows_it() -> None:
    with pytest.raises(ProcessStartError, match=r"inner starts a process .*: mark it `subprocess`"):
        with GUARD.watch("inner"):
            subprocess.run([sys.executable, "-c", ""], check=True)


def test_a_test_that_catches_the_refusal_fails_all_the_same() -> None:
    def careless() -> None:
        with GUARD.watch("inner"), suppress(ProcessStartError):
            subprocess.run([sys.executable, "-c", ""], check=True)

    with pytest.raises(ProcessStartError, match="inner"):
        careless()


@pytest.mark.subprocess
def test_what_fixtures_share_may_start_one() -> None:
    with GUARD.watch("inner"), GUARD.allowed():
        assert subprocess.run([sys.executable, "-c", ""]).returncode == 0
