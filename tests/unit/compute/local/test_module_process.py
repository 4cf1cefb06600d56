"""A module of the packaged Metaflow runs in a process group that is gone when it has ended, or is killed."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest
from tests.support.patience import wait_until

from airflow_provider_metaflow.compute.local.module_process import ModuleProcess

pytestmark = pytest.mark.subprocess

CHILD = (
    "import subprocess, sys, time\n"
    "child = subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
    "print(child.pid, flush=True)\n"
)


def command(source: str) -> list[str]:
    return [sys.executable, "-c", source]


def is_gone(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_its_lines_are_passed_on_as_they_come_with_its_exit_status(tmp_path: Path) -> None:
    lines: list[tuple[str, str]] = []
    source = "import os, sys; print(os.getcwd(), flush=True); print(os.environ['ONLY'], file=sys.stderr); sys.exit(3)"
    status = ModuleProcess().run(command(source), tmp_path, {"ONLY": "x"}, lambda *line: lines.append(line))
    assert status == 3
    assert lines == [("stdout", str(tmp_path)), ("stdout", "x")]


def test_a_very_long_line_comes_in_parts(tmp_path: Path) -> None:
    lines: list[str] = []
    ModuleProcess().run(command("print('x' * 200_000)"), tmp_path, {}, lambda _, line: lines.append(line))
    assert "".join(lines) == "x" * 200_000
    assert max(map(len, lines)) < 100_000


def test_what_it_has_started_ends_with_it(tmp_path: Path) -> None:
    lines: list[str] = []
    ModuleProcess().run(command(CHILD), tmp_path, dict(os.environ), lambda _, line: lines.append(line))
    (pid,) = map(int, lines)
    wait_until(lambda: is_gone(pid), 10, pause=0.05)


def test_a_kill_ends_it_with_all_that_it_has_started(tmp_path: Path) -> None:
    process, lines, ended = ModuleProcess(), list[str](), list[int]()
    source = f"{CHILD}time.sleep(60)"

    def run() -> None:
        ended.append(process.run(command(source), tmp_path, dict(os.environ), lambda _, line: lines.append(line)))

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: lines, 20, pause=0.05)
    process.kill()
    thread.join(20)
    assert ended == [-9]
    wait_until(lambda: is_gone(int(lines[0])), 10, pause=0.05)
    # Nothing runs any more.
    process.kill()
