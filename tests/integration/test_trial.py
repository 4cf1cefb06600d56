"""`python flow.py airflow test`: one run on an Airflow of its own (SQLite), from start to clean-up."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.results import artifacts


def trial(flow: Path, sysroot: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    return subprocess.run(
        [sys.executable, flow.name, "--no-pylint", "airflow", "test", *arguments],
        cwd=flow.parent,
        env={**environment, "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(sysroot)},
        capture_output=True,
        text=True,
    )


def test_a_trial_runs_the_flow_with_its_parameters_and_leaves_no_process(flows: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    result = trial(flows / "grouped.py", tmp_path, "--text", "{{ x }} $HOME ", "--home", str(home))
    assert result.returncode == 0, result.stdout + result.stderr
    (run_id,) = re.findall(r"Run GroupedFlow/(airflow-\w+): success", result.stdout)
    assert artifacts(tmp_path, "GroupedFlow", run_id)["end"][((), ())]["texts"] == [
        "{{ x }} $HOME 0",
        "{{ x }} $HOME 1",
    ]
    assert "body: 2/2" in result.stdout
    for process in Path("/proc").glob("[0-9]*"):
        try:
            assert str(home).encode() not in (process / "cmdline").read_bytes()
            command = (process / "cmdline").read_bytes()
            ours = f"AIRFLOW_HOME={home}".encode() in (process / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        # Only the warm process may outlast the run, until it has been idle for a while.
        assert not ours or b"task_runner.py" in command


@pytest.mark.extended
def test_a_trial_that_fails_says_so_and_shows_the_log(flows: Path, tmp_path: Path) -> None:
    result = trial(flows / "fragile.py", tmp_path, "--folder", str(tmp_path / "not-there"))
    assert result.returncode != 0
    assert "No such file or directory" in result.stdout
    assert "The run of *FragileFlow* failed" in result.stdout + result.stderr or "FragileFlow failed" in result.stderr
