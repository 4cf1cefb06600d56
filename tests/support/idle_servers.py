"""Servers of a session are stopped (SIGSTOP) while tests run that do not ask for them.

An Airflow that has nothing to do takes a sixth of a core of a slow machine and a cluster a seventh, which is a fifth of
all that two cores can do.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

import pytest

Groups = Callable[[], Iterable[int]]
"""Returns the ids of the process groups of a server."""

_SERVERS: dict[str, Groups] = {}


@contextmanager
def stopped_while_idle(fixture: str, groups: Groups) -> Iterator[None]:
    """Stop a server while tests run that do not use its fixture, as long as the body runs.

    :param fixture: the name of the fixture.
    :param groups: the process groups of the server.
    """
    _SERVERS[fixture] = groups
    try:
        yield
    finally:
        _signal(_SERVERS.pop(fixture), signal.SIGCONT)


def before(item: pytest.Item) -> None:
    """Continue the servers that a test uses, and stop the others."""
    used = getattr(item, "fixturenames", ())
    for fixture, groups in _SERVERS.items():
        _signal(groups, signal.SIGCONT if fixture in used else signal.SIGSTOP)


def continue_all() -> None:
    """Continue all servers, which what is torn down at the end of a session may ask."""
    for groups in _SERVERS.values():
        _signal(groups, signal.SIGCONT)


def _signal(groups: Groups, number: signal.Signals) -> None:
    for group in groups():
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)
