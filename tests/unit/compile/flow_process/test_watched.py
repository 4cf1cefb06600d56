"""What the import of a flow reads elsewhere: variables and files whose change compiles it again."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.interpreter import python

from metaflow_orchestration.compile.compiler import CompileOptions, load_manifest
from metaflow_orchestration.documents.manifest import Manifest

pytestmark = pytest.mark.subprocess

FLOW = """
import os
{before}
from metaflow import FlowSpec, environment, step


class ReadingFlow(FlowSpec):
    @environment(vars={{"READ": str({read})}})
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    ReadingFlow()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for a flow, with a datastore and a cache beside it."""
    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(tmp_path / "store"))
    (tmp_path / "flows").mkdir()
    return tmp_path


def compiled(place: Path, read: str, before: str = "") -> Manifest:
    flow = place / "flows" / "reading.py"
    text = FLOW.format(read=read, before=before)
    if not flow.exists() or flow.read_text() != text:
        flow.write_text(text)
    return load_manifest(flow, CompileOptions(python=python()), place / "cache")


@pytest.mark.parametrize(
    "read",
    [
        'os.environ.get("STAGE")',
        pytest.param('os.getenv("STAGE", "none")', marks=pytest.mark.extended),
        pytest.param('"STAGE" in os.environ', marks=pytest.mark.extended),
    ],
)
def test_a_variable_that_the_flow_reads_when_it_is_imported_compiles_it_again(
    place: Path, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    """The DAG kept the values of the environment in which it was compiled first."""
    monkeypatch.delenv("STAGE", raising=False)
    first = compiled(place, read)
    monkeypatch.setenv("UNREAD", "x")
    assert compiled(place, read) == first
    monkeypatch.setenv("STAGE", "prod")
    second = compiled(place, read)
    assert second != first
    assert compiled(place, read) == second
    (report,) = (place / "cache/manifests").glob("*.reads")
    assert "prod" not in report.read_text()
    assert report.stat().st_mode & 0o077 == 0


@pytest.mark.extended
def test_a_variable_that_is_read_before_metaflow_is_imported_counts_and_a_copy_of_all_does_not(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = 'STAGE = os.environ["STAGE"]\nCOPY = dict(os.environ)\nOTHER = os.environ.copy()\nTHIRD = {**os.environ}'
    monkeypatch.setenv("STAGE", "dev")
    first = compiled(place, "STAGE", before)
    monkeypatch.setenv("UNREAD", "y")
    assert compiled(place, "STAGE", before) == first
    monkeypatch.setenv("STAGE", "prod")
    assert compiled(place, "STAGE", before) != first


@pytest.mark.extended
def test_what_the_flow_sets_itself_and_a_user_that_only_the_compiler_has_do_not_count(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They differ from the environment of the next parse for ever."""
    monkeypatch.delenv("METAFLOW_USER")
    monkeypatch.delenv("OWN", raising=False)
    before = 'os.environ["OWN"] = "1"\nOWN = os.environ["OWN"]\nUSER = os.environ["METAFLOW_USER"]'
    first = compiled(place, "OWN", before)
    (file,) = (place / "cache/manifests").glob("*.json")
    written = file.stat().st_mtime_ns
    assert compiled(place, "OWN", before) == first
    assert file.stat().st_mtime_ns == written


@pytest.mark.extended
def test_a_module_of_another_folder_that_the_flow_imports_compiles_it_again(place: Path) -> None:
    """Its code package stayed the old one."""
    (place / "src").mkdir()
    (place / "src/shared_numbers.py").write_text("VERSION = 1\n")
    before = f"import sys; sys.path.append({str(place / 'src')!r}); import shared_numbers"
    first = compiled(place, "shared_numbers.VERSION", before)
    assert compiled(place, "shared_numbers.VERSION", before) == first
    (place / "src/shared_numbers.py").write_text("VERSION = 2\n")
    assert compiled(place, "shared_numbers.VERSION", before) != first


@pytest.mark.extended
def test_a_library_that_metaflow_packages_from_beside_the_folder_compiles_it_again(place: Path) -> None:
    """Nothing imports it before the step runs."""
    (place / "lib/late").mkdir(parents=True)
    (place / "lib/late/__init__.py").write_text("VERSION = 1\n")
    flow = place / "flows" / "reading.py"
    text = FLOW.format(read="1", before="from metaflow import package_sources")
    flow.write_text(text.replace("class ReadingFlow", '@package_sources("../lib/late")\nclass ReadingFlow'))
    first = load_manifest(flow, CompileOptions(python=python()), place / "cache")
    (place / "lib/late/__init__.py").write_text("VERSION = 2\n")
    second = load_manifest(flow, CompileOptions(python=python()), place / "cache")
    assert second.code.sha != first.code.sha
