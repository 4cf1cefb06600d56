from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.support.interpreter import python

from metaflow_orchestration.compile.compiler import CompileOptions, load_manifest
from metaflow_orchestration.exceptions import FlowCompileError

pytestmark = pytest.mark.subprocess

OPTIONS = CompileOptions(python=python())


@pytest.fixture
def place(tmp_path: Path, flows: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one flow file, and a datastore."""
    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(tmp_path / "store"))
    (tmp_path / "flow").mkdir()
    shutil.copy(flows / "linear.py", tmp_path / "flow" / "linear.py")
    return tmp_path


def test_an_unchanged_flow_is_compiled_once(place: Path) -> None:
    first = load_manifest(place / "flow" / "linear.py", OPTIONS, place / "cache")
    broken = CompileOptions(python=python())
    (file,) = (place / "cache" / "manifests").glob("*.json")
    before = file.stat().st_mtime_ns
    assert load_manifest(place / "flow" / "linear.py", broken, place / "cache") == first
    assert file.stat().st_mtime_ns == before


@pytest.mark.parametrize("change", ["flow", "helper", "options", "package"])
def test_a_change_of_what_the_manifest_depends_on_compiles_anew(place: Path, change: str) -> None:
    flow, options = place / "flow" / "linear.py", OPTIONS
    first = load_manifest(flow, options, place / "cache")
    if change == "flow":
        flow.write_text(flow.read_text() + "\n# changed\n")
    elif change == "helper":
        (place / "flow" / "helper.py").write_text("x = 1\n")
    elif change == "options":
        options = CompileOptions(python=python(), create=("--tag", "new"))
    else:
        Path(first.code.url).unlink()
    second = load_manifest(flow, options, place / "cache")
    assert Path(second.code.url).exists()
    assert (second == first) == (change == "package")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("from metaflow import", "import not_there\nfrom metaflow import", "No module named 'not_there'"),
        ("self.next(self.middle)", "self.next(self.nowhere)", r"step start.*nowhere"),
        ("self.next(self.end)", "pass", r"step middle.*self\.next"),
        ("class LinearFlow", "class LinearFlow(", "linear.py"),
    ],
)
def test_a_flow_that_does_not_compile_is_told_by_file_and_step(place: Path, old: str, new: str, message: str) -> None:
    flow = place / "flow" / "linear.py"
    flow.write_text(flow.read_text().replace(old, new))
    with pytest.raises(FlowCompileError, match=r"(?s)flow linear\.py.*" + message):
        load_manifest(flow, OPTIONS, place / "cache")
    assert not list((place / "cache" / "manifests").glob("*.json"))


def test_a_flow_that_is_gone_is_told_by_name(place: Path) -> None:
    with pytest.raises(FlowCompileError, match=r"gone\.py does not exist"):
        load_manifest(place / "gone.py", OPTIONS, place / "cache")


def test_a_missing_interpreter_is_told_by_name(place: Path) -> None:
    with pytest.raises(FlowCompileError, match="interpreter '/no/python' cannot be started"):
        load_manifest(place / "flow" / "linear.py", CompileOptions(python="/no/python"), place / "cache")


def test_remote_compute_is_refused_at_compile_time_with_the_step(place: Path) -> None:
    flow = place / "flow" / "linear.py"
    with pytest.raises(FlowCompileError, match="batch"):
        load_manifest(flow, CompileOptions(python=python(), top_level=("--with", "batch")), place / "cache")
