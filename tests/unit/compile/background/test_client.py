"""Flows that a process in the background compiles are found in the cache by the parse that asked for them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from metaflow_orchestration.cache import Cache
from metaflow_orchestration.compile.background.client import compile_for
from metaflow_orchestration.compile.cache.entry import Entry
from metaflow_orchestration.compile.compiler import CompileOptions

pytestmark = pytest.mark.subprocess


def test_a_dag_processor_without_a_user_name_finds_what_the_background_process_has_compiled(
    tmp_path: Path, flows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(tmp_path / "store"))
    for name in ("METAFLOW_USER", "USER", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "flow.py"
    shutil.copy(flows / "linear.py", path)
    cache = Cache(tmp_path / "cache", 1 << 30)
    entry = Entry.of(path, CompileOptions(python=sys.executable), cache)
    compile_for([entry], cache, None)
    assert entry.manifest() is not None
