"""From a flow, its file or its manifest to the manifest that an adapter works with."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from metaflow_adapters import manifests
from metaflow_adapters.manifests import compile_manifest_of
from metaflow_orchestration.compile.compiler import CompileOptions
from metaflow_orchestration.documents.manifest import SUFFIX, Manifest, encode_manifest


def test_a_manifest_is_taken_as_it_is_and_its_file_is_read(
    recorded: Callable[[str], Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "load_manifest", lambda *_: pytest.fail("nothing is to be compiled"))
    manifest, file = recorded("linear"), tmp_path / f"linear{SUFFIX}"
    file.write_bytes(encode_manifest(manifest))
    assert compile_manifest_of(manifest, "argo") is manifest
    assert compile_manifest_of(file, "argo") == manifest == compile_manifest_of(str(file), "argo")


@pytest.fixture
def compiles(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What is compiled."""
    found: list[tuple[Any, ...]] = []
    monkeypatch.setattr(manifests, "load_manifest", lambda *given: found.append(given))
    return found


def test_a_flow_file_is_compiled_with_the_options_given(compiles: list[tuple[Any, ...]], tmp_path: Path) -> None:
    compile_manifest_of(
        "flow.py", "sfn", name="n", top_level=["--no-pylint"], create=["--x"], environment={"B": "2", "A": "1"},
        python="/other/python", cache=tmp_path,
    )  # fmt: skip
    options = CompileOptions(
        group="sfn", name="n", top_level=("--no-pylint",), create=("--x",), environment=(("A", "1"), ("B", "2")),
        python="/other/python",
    )  # fmt: skip
    assert compiles == [(Path("flow.py"), options, tmp_path)]


@pytest.mark.parametrize("variable", ["XDG_CACHE_HOME", "HOME"])
def test_without_options_this_interpreter_compiles_into_the_users_own_cache(
    compiles: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    compile_manifest_of(Path("flow.py"), "argo")
    home = tmp_path if variable == "XDG_CACHE_HOME" else tmp_path / ".cache"
    ((_, options, cache),) = compiles
    assert cache == home / "airflow-provider-metaflow"
    assert options == CompileOptions(group="argo", python=sys.executable)
