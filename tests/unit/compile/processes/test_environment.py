"""The environment that flows are compiled in."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from metaflow_orchestration.compile.cache.keys import cache_key, shared_key
from metaflow_orchestration.compile.options import CompileOptions
from metaflow_orchestration.compile.processes.environment import child_environment


def test_metaflow_makes_its_temporary_files_where_anybody_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a DAG folder that is mounted to be read only, no token and no manifest was found in S3."""
    monkeypatch.delenv("METAFLOW_TEMPDIR", raising=False)
    assert child_environment()["METAFLOW_TEMPDIR"] == tempfile.gettempdir()
    monkeypatch.setenv("METAFLOW_TEMPDIR", "/scratch")
    assert child_environment()["METAFLOW_TEMPDIR"] == "/scratch"


def test_a_container_without_a_place_for_temporary_files_reads_what_is_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.delenv("METAFLOW_TEMPDIR", raising=False)
    monkeypatch.setattr(tempfile, "gettempdir", none)
    assert "METAFLOW_TEMPDIR" not in child_environment()


def test_where_temporary_files_are_made_is_part_of_no_key(
    tmp_path: Path, flows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = tmp_path / "flow.py"
    shutil.copy(flows / "linear.py", flow)
    keys = set()
    for folder in ("/one", "/other"):
        monkeypatch.setenv("METAFLOW_TEMPDIR", folder)
        options = CompileOptions(python="python")
        keys.add((cache_key(flow, options), shared_key(flow, options)))
    assert len(keys) == 1
