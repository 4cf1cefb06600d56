"""The supervisor ends with the status of its command, and leaves none of its processes behind."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.patience import wait_until

from metaflow_orchestration.compile.processes import supervisor

BEHIND = "import subprocess, sys; open(sys.argv[1], 'w').write(str(subprocess.Popen(['sleep', '100']).pid))"


@pytest.fixture
def untied(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """This process must keep its other children and its parent; notes that they would have been ended."""
    ended: list[str] = []
    monkeypatch.setattr(supervisor, "tie_to_parent", lambda: ended.append("tied"))
    monkeypatch.setattr(supervisor, "kill_adopted", lambda: ended.append("adopted"))
    kept = signal.getsignal(signal.SIGTERM)
    yield ended
    signal.signal(signal.SIGTERM, kept)


def is_alive(pid: str) -> bool:
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.subprocess
@pytest.mark.parametrize(("program", "status"), [("exit 3", 3), ("exit 0", 0), ("kill -9 $$", 137)])
def test_the_status_is_that_of_the_command_as_a_shell_gives_it(untied: list[str], program: str, status: int) -> None:
    assert supervisor.main(os.getppid(), ["sh", "-c", program]) == status
    assert untied == ["tied", "adopted"]


@pytest.mark.subprocess
def test_what_a_command_leaves_in_its_group_is_ended(untied: list[str], tmp_path: Path) -> None:
    note = tmp_path / "pid"
    assert supervisor.main(os.getppid(), [sys.executable, "-IS", "-c", BEHIND, str(note)]) == 0
    wait_until(lambda: not is_alive(note.read_text().strip()), timeout=10, pause=0.02)


@pytest.mark.subprocess
def test_a_command_whose_starter_is_gone_is_ended(untied: list[str]) -> None:
    # Another parent than it was told: the one that started it has ended.
    assert supervisor.main(os.getppid() + 1, ["sleep", "100"]) == 128 + signal.SIGTERM


@pytest.mark.subprocess
def test_a_supervisor_that_is_ended_ends_its_command(untied: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor.time, "sleep", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as ended:
        supervisor.main(os.getppid(), ["sleep", "100"])
    assert ended.value.code == 128 + signal.SIGTERM
    assert untied == ["tied", "adopted"]


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone ties processes to each other")
def test_it_is_told_of_the_end_of_its_parent_and_adopts_what_has_lost_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[Any, ...]] = []

    class Library:
        @staticmethod
        def prctl(*arguments: Any) -> None:
            called.append(arguments)

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Library)
    supervisor.tie_to_parent()
    # PR_SET_PDEATHSIG and PR_SET_CHILD_SUBREAPER (linux/prctl.h)
    assert called == [(1, signal.SIGTERM, 0, 0, 0), (36, 1, 0, 0, 0)]


def test_adopted_processes_are_killed_until_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second hands a child of its own on, as it dies; a third is gone before it is killed."""
    lists, killed = ["11 12\n", "13 14\n", ""], []

    def kill(pid: int, number: int) -> None:
        killed.append((pid, number))
        if pid == 14:
            raise ProcessLookupError

    def waitpid(pid: int, _: int) -> None:
        if pid == 14:
            raise ChildProcessError

    monkeypatch.setattr(Path, "read_text", lambda _: lists.pop(0))
    monkeypatch.setattr(supervisor.os, "kill", kill)
    monkeypatch.setattr(supervisor.os, "waitpid", waitpid)
    supervisor.kill_adopted()
    assert killed == [(pid, signal.SIGKILL) for pid in (11, 12, 13, 14)]
    assert lists == []
