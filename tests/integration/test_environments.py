"""Steps in environments that Metaflow makes for them, in pods."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.kubernetes import HOST
from tests.support.package_index import package_index
from tests.support.pods import Pods

pytestmark = [pytest.mark.scheduler, pytest.mark.kubernetes, pytest.mark.extended]

PROJECT = """
[project]
name = "locked"
version = "1.0"
requires-python = ">=3.11"
dependencies = ["greeting"]

[[tool.uv.index]]
url = "{index}"
default = true
"""


def test_a_step_runs_in_the_environment_of_its_uv_lock_file(pods: Pods, flows: Path, tmp_path: Path) -> None:
    with package_index(HOST, tmp_path / "index", {"greeting": 'WORD = "hello "\n'}) as index:
        project = tmp_path / "project"
        project.mkdir()
        shutil.copy(flows / "environments/locked.py", project)
        (project / "pyproject.toml").write_text(PROJECT.format(index=index))
        subprocess.run([sys.executable, "-m", "uv", "--quiet", "lock"], cwd=project, check=True)
        pods.deploy(project / "locked.py", "--environment", "uv", "--with", "kubernetes")
        run = pods.airflow.start("LockedFlow", "LockedFlow")
        run.wait(timeout=600)
    joined = pods.artifacts(run)["join"][((), ())]
    assert joined["words"] == ["hello a", "hello b"]
    assert joined["isolated"]
