"""A flow is compiled once for all machines that share its datastore: one DAG, one set of defaults."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.support.interpreter import python

from metaflow_orchestration.compile.compiler import CompileOptions, load_manifest
from metaflow_orchestration.documents.manifest import Manifest, deployed_part, encode_manifest
from metaflow_orchestration.exceptions import FlowCompileError

pytestmark = pytest.mark.subprocess

FLOW = """
import datetime, os, uuid
from metaflow import FlowSpec, Parameter, project, step
{decorator}
class SharedFlow(FlowSpec):
    made = Parameter("made", default=lambda context: datetime.datetime.now().isoformat())
    stamp = Parameter("stamp", default=uuid.uuid4().hex)
    where = Parameter("where", default={where})

    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    open({log!r}, "a").write("x")
    SharedFlow()
"""

OPTIONS = CompileOptions(python=python(), shared=True)


class Machines:
    """Machines with a cache, a user and a folder each, and one datastore."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self._patch = root, monkeypatch
        monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(root / "store"))
        self.write("dags")

    def write(self, folder: str, *, decorator: str = "", where: str = "'here'") -> None:
        (self.root / folder).mkdir(parents=True, exist_ok=True)
        text = FLOW.format(decorator=decorator, where=where, log=str(self.root / "log"))
        (self.root / folder / "shared.py").write_text(text)

    def compiled(self, name: str, folder: str = "dags", user: str = "ann", on_worker: bool = False) -> Manifest:
        for variable in ("METAFLOW_USER", "USER", "USERNAME"):
            self._patch.setenv(variable, user)
        self._patch.setenv("METAFLOW_HOME", str(self.root / name / "home"))
        options = replace(OPTIONS, on_worker=on_worker)
        return load_manifest(self.root / folder / "shared.py", options, self.root / name / "cache")

    @property
    def runs(self) -> int:
        """How often the flow's code was run."""
        return len((self.root / "log").read_text())


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machines:
    return Machines(tmp_path, monkeypatch)


def shown(manifest: Manifest) -> bytes:
    """Return what a DAG shows of a manifest."""
    return encode_manifest(deployed_part(replace(manifest, compiled_in_place=True)))


@pytest.mark.extended
def test_two_dag_processors_with_caches_of_their_own_make_one_deployment(machines: Machines) -> None:
    first = machines.compiled("one")
    assert machines.compiled("two") == first
    assert machines.runs == 1
    machines.write("dags", where="'elsewhere'")
    second = machines.compiled("two")
    assert second.graph.parameters != first.graph.parameters
    assert machines.compiled("one") == second


def test_what_lies_beside_a_flow_counts_as_its_code_does(machines: Machines) -> None:
    """A flow may read it when it is imported, and two projects may have the same code."""
    first = machines.compiled("one")
    (machines.root / "dags/settings.json").write_text('{"schedule": "daily"}')
    other = machines.compiled("two")
    assert (other.graph.parameters != first.graph.parameters, machines.runs) == (True, 2)


def test_a_worker_whose_variables_differ_does_not_take_what_was_compiled_for_others(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines.write("dags", where='os.environ.get("STAGE", "")')
    monkeypatch.setenv("STAGE", "prod")
    machines.compiled("processor")
    monkeypatch.delenv("STAGE")
    assert '"prod"' in encode_manifest(machines.compiled("worker", on_worker=True)).decode()
    monkeypatch.setenv("STAGE", "dev")
    assert '"dev"' in encode_manifest(machines.compiled("other-worker", on_worker=True)).decode()


def test_a_worker_of_another_user_takes_what_was_compiled_and_needs_no_token(machines: Machines) -> None:
    """It compiled again, and was refused for lack of the production token."""
    first = machines.compiled("processor")
    found = machines.compiled("worker", user="bob", on_worker=True)
    assert (found, found.deployment.owner, machines.runs) == (first, "ann", 1)
    assert machines.compiled("worker", user="bob", on_worker=True) == first
    # So does any other process that parses the DAG file, as long as the flow is the same.
    assert machines.compiled("other", user="bob") == first
    machines.write("dags", where="'changed by bob'")
    with pytest.raises(FlowCompileError, match="production token is needed"):
        machines.compiled("other", user="bob")


@pytest.mark.extended
def test_a_branch_of_a_user_is_that_of_the_processor_on_its_workers_only(machines: Machines) -> None:
    machines.write("dags", decorator='@project(name="shared_project")')
    first = machines.compiled("processor")
    assert first.graph.project is not None
    assert first.graph.project.branch == "user.ann"
    assert machines.compiled("worker", user="bob", on_worker=True) == first
    other = machines.compiled("other", user="bob")
    assert other.graph.project is not None
    assert other.graph.project.branch == "user.bob"


def test_another_path_of_the_bundle_makes_the_same_deployment(machines: Machines) -> None:
    first = machines.compiled("one")
    shutil.copytree(machines.root / "dags", machines.root / "2026-01-02T00" / "dags")
    second = machines.compiled("one", folder="2026-01-02T00/dags")
    assert second.code.flow_dir == str(machines.root / "2026-01-02T00/dags")
    assert (shown(second), machines.runs) == (shown(first), 1)


def test_a_value_that_holds_the_path_is_made_again_at_another(machines: Machines) -> None:
    machines.write("v1/dags", where="os.path.dirname(os.path.abspath(__file__))")
    machines.write("v2/dags", where="os.path.dirname(os.path.abspath(__file__))")
    machines.compiled("one", folder="v1/dags")
    found = machines.compiled("one", folder="v2/dags")
    assert found.graph.parameters[-1].default == str(machines.root / "v2/dags")


@pytest.mark.extended
def test_another_variable_that_the_flow_reads_is_another_deployment(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines.write("dags", where="os.environ['STAGE']")
    monkeypatch.setenv("STAGE", "dev")
    first = machines.compiled("one")
    monkeypatch.setenv("STAGE", "prod")
    second = machines.compiled("two")
    assert (first.graph.parameters[-1].default, second.graph.parameters[-1].default) == ("dev", "prod")
    # A worker without the variable at all takes what the DAG was made of last.
    monkeypatch.delenv("STAGE")
    assert machines.compiled("worker", on_worker=True) == second


def test_a_flow_that_does_not_compile_any_more_is_taken_from_nowhere(machines: Machines) -> None:
    machines.compiled("one")
    (machines.root / "dags/shared.py").write_text("raise ValueError('on purpose')")
    with pytest.raises(FlowCompileError, match="on purpose"):
        machines.compiled("two")
    (machines.root / "log").write_text("")
    machines.write("dags")
    shutil.rmtree(next((machines.root / "store").glob(".metaflow/SharedFlow/data")))
    machines.compiled("two")
    assert machines.runs == 1
