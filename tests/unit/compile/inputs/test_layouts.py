"""Any layout that `python path/flow.py run` accepts compiles and runs: each step sees what a local run sees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.interpreter import python

from airflow_provider_metaflow.compute.local.processes import LocalCompute
from metaflow_orchestration.compile.compiler import CompileOptions, load_manifest
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import FlowCompileError, MetaflowProviderError
from metaflow_orchestration.run.commands import StepCall, parameters_path

pytestmark = pytest.mark.subprocess

FLOW = """{top}
from metaflow import Config, FlowSpec, Parameter, step
{imports}

class LayoutFlow(FlowSpec):
{fields}
    @step
    def start(self):
        print("found", {value})
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    LayoutFlow()
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(tmp_path / "store"))
    monkeypatch.setenv("METAFLOW_HOME", str(tmp_path / "home"))
    (tmp_path / "project").mkdir()
    return tmp_path / "project"


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def flow(value: str, *, imports: str = "", top: str = "", fields: str = "") -> str:
    return FLOW.format(value=value, imports=imports, top=top, fields=fields)


def compiled(path: Path, project: Path, **options: object) -> Manifest:
    return load_manifest(path, CompileOptions(python=python(), **options), project.parent / "cache")  # type: ignore[arg-type]


def found(manifest: Manifest, project: Path) -> str:
    """Run the start step as a worker does; return what it printed."""
    lines: list[str] = []
    compute = LocalCompute(
        manifest=manifest,
        code=manifest.code,
        cache=project.parent / "cache",
        python=sys.executable,
        warm=False,
        idle_seconds=1,
        links={},
        variables={},
        on_line=lambda _, text: lines.append(text),
    )
    with compute:
        step = manifest.graph.step("start")
        call = StepCall(
            step=step, run_id="r", task_id="t-start", attempt=0, max_user_retries=0, inputs=(parameters_path("r"),)
        )
        compute.run(call, {})
    return next(line.removeprefix("found ") for line in lines if line.startswith("found "))


ROOT_FLOW = flow(
    "self.project.name, Path(self.dataset).read_text(), (Path(__file__).parents[1] / 'data/rows.csv').read_text()",
    imports="from pathlib import Path",
    fields="""    project = Config("project", default="config/local.json")
    dataset = Parameter("dataset", default="data/rows.csv")
""",
)


def from_the_root(project: Path) -> Path:
    files = {"pipelines/training.py": ROOT_FLOW, "config/local.json": '{"name": "here"}', "data/rows.csv": "1,2"}
    write(project, files)
    return project / "pipelines/training.py"


def test_a_flow_is_compiled_and_run_in_the_root_of_its_project(project: Path) -> None:
    path = from_the_root(project)
    manifest = compiled(path, project, project_root=str(project))
    assert found(manifest, project) == "here 1,2 1,2"
    # A changed configuration and a new helper of the project compile it again.
    (project / "config/local.json").write_text('{"name": "there"}')
    assert compiled(path, project, project_root=str(project)) != manifest
    again = compiled(path, project, project_root=str(project))
    write(project, {"lib/new.py": "x = 1"})
    assert compiled(path, project, project_root=str(project)).code.sha != again.code.sha


def test_without_its_root_the_error_says_where_it_was_started_and_what_to_give(project: Path) -> None:
    path = from_the_root(project)
    expected = rf"(?s)config/local\.json.*started in {path.parent}.*project_root="
    with pytest.raises(FlowCompileError, match=expected):
        compiled(path, project)


@pytest.mark.parametrize("root", ["elsewhere", "nowhere"])
def test_a_root_that_does_not_hold_the_flow_is_refused(project: Path, root: str) -> None:
    path = from_the_root(project)
    (project.parent / "elsewhere").mkdir()
    with pytest.raises(MetaflowProviderError, match="is no folder that holds the flow file"):
        compiled(path, project, project_root=str(project.parent / root))


def test_create_packages_the_root_that_it_is_given(project: Path) -> None:
    path = from_the_root(project)
    arguments = ["--no-pylint", "airflow", "create", "--project-root", ".", str(project.parent / "dags/made.py")]
    subprocess.run([python(), str(path.relative_to(project)), *arguments], cwd=project, check=True)
    made = next((project.parent / "dags").glob("*.metaflow.json"))
    from metaflow_orchestration.documents.manifest import read_manifest

    manifest = read_manifest(made)
    assert (manifest.code.flow_file, manifest.code.flow_dir) == ("pipelines/training.py", str(project))
    assert found(manifest, project) == "here 1,2 1,2"


@pytest.mark.parametrize("given", [False, True])
def test_a_package_with_relative_imports_runs_as_python_m_does(project: Path, given: bool) -> None:
    files = {
        "team/__init__.py": "",
        "team/flows/__init__.py": "",
        "team/common.py": "NAME = 'common'",
        "team/flows/helper.py": "from ..common import NAME",
        "team/flows/flow.py": flow("NAME, __package__", imports="from .helper import NAME"),
    }
    write(project, files)
    path = project / "team/flows/flow.py"
    options = {"project_root": str(project)} if given else {}
    manifest = compiled(path, project, **options)
    assert found(manifest, project) == "common team.flows"
    (project / "team/common.py").write_text("NAME = 'changed'")
    assert found(compiled(path, project, **options), project) == "changed team.flows"


def test_a_path_that_the_flow_sets_from_the_parents_of_its_file_holds_in_its_steps(project: Path) -> None:
    parents = "os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'src')"
    top = f"import os, sys\nsys.path.insert(0, {parents})"
    text = flow("forecasting.VERSION", top=top, imports="import forecasting")
    path = project / "ml/flows/forecast.py"
    write(project, {"ml/flows/forecast.py": text, "src/forecasting.py": "VERSION = 7"})
    manifest = compiled(path, project)
    assert found(manifest, project) == "7"
    write(project, {"src/forecasting.py": "VERSION = 8"})
    assert found(compiled(path, project), project) == "8"


def test_what_airflow_lets_a_dag_file_import_its_flow_can_import(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow appends the root of the bundle to `sys.path`, in the DAG processor and in the worker."""
    files = {
        "common/features.py": "COLUMNS = ('a', 'b')",
        "random.py": "raise SystemExit(3)",
        "ml/flows/features.py": flow("COLUMNS", imports="import random\nfrom common.features import COLUMNS"),
    }
    write(project, files)
    path = project / "ml/flows/features.py"
    with pytest.raises(FlowCompileError, match=r"No module named 'common'[\s\S]*project_root="):
        compiled(path, project)
    monkeypatch.syspath_prepend(str(project))
    from metaflow_orchestration.compile.inputs.layout import own_import_paths

    paths = own_import_paths()
    assert str(project) in paths
    assert not [one for one in paths if "site-packages" in one]
    assert found(compiled(path, project, import_paths=paths), project) == "('a', 'b')"


def test_a_data_file_that_is_added_later_is_found_by_the_next_run(project: Path) -> None:
    path = project / "flow.py"
    path.write_text(flow("sorted(one.name for one in Path().glob('*.csv'))", imports="from pathlib import Path"))
    (project / "one.csv").write_text("")
    manifest = compiled(path, project)
    assert found(manifest, project) == "['one.csv']"
    (project / "two.csv").write_text("")
    assert compiled(path, project) == manifest
    assert found(manifest, project) == "['one.csv', 'two.csv']"


def test_a_virtual_environment_beside_the_flow_is_not_packaged(project: Path) -> None:
    path = project / "flow.py"
    path.write_text(flow("1"))
    before = compiled(path, project)
    modules = project / "venv/lib/python3/site-packages/big"
    modules.mkdir(parents=True)
    (project / "venv/pyvenv.cfg").write_text("home = /usr/bin\n")
    for number in range(50):
        (modules / f"m{number}.py").write_text("")
    assert compiled(path, project) == before
    for one in (project.parent / "cache").glob("manifests/*"):
        one.unlink()
    assert compiled(path, project).code.sha == before.code.sha


def test_a_changed_default_of_an_included_file_compiles_the_flow_again(project: Path) -> None:
    flow = """
from metaflow import FlowSpec, IncludeFile, step
class IncludingFlow(FlowSpec):
    query = IncludeFile("query", default="query.sql")
    @step
    def start(self):
        self.next(self.end)
    @step
    def end(self):
        pass
if __name__ == "__main__":
    IncludingFlow()
"""
    write(project, {"including.py": flow, "query.sql": "select 1"})
    first = compiled(project / "including.py", project)
    assert compiled(project / "including.py", project) == first
    write(project, {"query.sql": "select 2"})
    assert compiled(project / "including.py", project) != first
