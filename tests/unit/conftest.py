"""Unit tests start no process, unless they are marked `subprocess`."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from tests.harness.processes import GUARD


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    yield from _watched(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    yield from _watched(item)


def _watched(item: pytest.Item) -> Generator[None, None, None]:
    if item.get_closest_marker("subprocess"):
        yield
        return
    with GUARD.watch(item.nodeid):
        yield
