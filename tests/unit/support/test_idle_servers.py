"""A server that no test of the moment uses takes no time from those that run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support import idle_servers
from tests.support.patience import wait_until

pytestmark = pytest.mark.subprocess


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    monkeypatch.setattr(idle_servers, "_SERVERS", {})
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True) as process:
        yield process
        process.kill()


def state(process: subprocess.Popen[bytes]) -> str:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]


def becomes(process: subprocess.Popen[bytes], *states: str) -> None:
    wait_until(lambda: state(process) in states, 10, pause=0.05)


def test_a_server_stands_still_while_tests_run_that_do_not_use_it(server: subprocess.Popen[bytes]) -> None:
    using: Any = SimpleNamespace(fixturenames=["tmp_path", "airflow"])
    other: Any = SimpleNamespace(fixturenames=["tmp_path"])
    with idle_servers.stopped_while_idle("airflow", lambda: [server.pid]):
        idle_servers.before(other)
        becomes(server, "T")
        idle_servers.before(using)
        becomes(server, "R", "S")
        idle_servers.before(other)
        idle_servers.continue_all()
        becomes(server, "R", "S")
        idle_servers.before(other)
        becomes(server, "T")
    # It ends by what its owner sends it.
    becomes(server, "R", "S")


def test_a_server_that_has_ended_hurts_no_test(server: subprocess.Popen[bytes]) -> None:
    with idle_servers.stopped_while_idle("airflow", lambda: [server.pid]):
        os.killpg(server.pid, 9)
        server.wait()
        idle_servers.before(SimpleNamespace(fixturenames=[]))  # type: ignore[arg-type]
        assert server.returncode == -9
