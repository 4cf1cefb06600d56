"""What the import contracts of setup.cfg cannot say: no cycles between files, and none that is too big."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
EXTENSION = "metaflow_extensions/airflow_provider_metaflow/plugins/orchestrator"

PACKAGES = ("metaflow_orchestration", "airflow_provider_metaflow", "metaflow_adapters", "metaflow_extensions")

FACADE = "metaflow_adapters.step_functions.machine"
"""What `compile_flow` returns has `deploy`, `diff` and `trigger`, whose modules it imports when they are called."""


def cycles(graph: grimp.ImportGraph) -> set[frozenset[str]]:
    """Return the groups of modules that import each other, also by way of further ones."""
    found = set()
    for module in graph.modules:
        above, below = graph.find_upstream_modules(module), graph.find_downstream_modules(module)
        if both := (above & below) - {module}:
            found.add(frozenset({module, *both}))
    return found


def test_no_two_files_import_each_other() -> None:
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)
    assert len(graph.modules) > 200
    for module in ("deploy.flow", "runs.runs"):
        graph.remove_import(importer=FACADE, imported=f"metaflow_adapters.step_functions.{module}")
    assert [sorted(one) for one in cycles(graph)] == []


def test_a_cycle_by_way_of_a_third_file_is_found() -> None:
    graph = grimp.ImportGraph()
    for one, other in (("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")):
        for name in (one, other):
            graph.add_module(name)
        graph.add_import(importer=one, imported=other)
    assert cycles(graph) == {frozenset({"a", "b", "c"})}


MAX_LINES, MAX_FUNCTION, MAX_CLASS, MAX_MODULES = 300, 50, 200, 20

TOO_BIG = {
    "airflow_provider_metaflow/dag/factory.py MetaflowDag.__init__": 58,
    "airflow_provider_metaflow/dag/factory.py MetaflowTaskGroup.__init__": 70,
    "airflow_provider_metaflow/execution/run_view.py AirflowRunView": 231,
    "airflow_provider_metaflow/execution/step_execution.py": 497,
    "airflow_provider_metaflow/execution/step_execution.py StepExecution": 442,
    "airflow_provider_metaflow/execution/step_execution.py StepExecution.__init__": 58,
    "airflow_provider_metaflow/get_provider_info.py get_provider_info": 124,
    "airflow_provider_metaflow/operators/step.py MetaflowStepOperator": 205,
    "airflow_provider_metaflow/plugin/app.py show_run": 66,
    "…/deployer/airflow_deployer.py AirflowDeployer.create": 75,
    "…/deployer/airflow_deployer_objects.py AirflowDeployedFlow": 207,
    "…/deployer/argo_deployer.py ArgoDeployer.create": 92,
    "…/deployer/sfn_deployer.py SfnDeployer.create": 77,
}
"""What is bigger than it should be. The list may only get shorter, and a number only lower."""


def sizes() -> dict[str, int]:
    """Return the size of each folder, file, class and function that is too big, by its place below the sources."""
    files = [path for folder in ("provider", "adapters") for path in sorted((ROOT / folder).rglob("*.py"))]
    modules = Counter(path.parent for path in files)
    found = {_place(folder): count for folder, count in modules.items() if count > MAX_MODULES}
    for path in files:
        source = path.read_text()
        lines = source.count("\n")
        if lines > MAX_LINES:
            found[_place(path)] = lines
        found |= {f"{_place(path)} {name}": size for name, size in too_long(source)}
    return found


def _place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix().partition("/")[2].replace(EXTENSION, "…")


def too_long(source: str) -> list[tuple[str, int]]:
    """Return the qualified names and lengths of classes and functions that are too long."""
    found = []

    def visit(node: ast.AST, within: str) -> None:
        for one in ast.iter_child_nodes(node):
            name = within
            if isinstance(one, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                name = f"{within}.{one.name}" if within else one.name
                size = (one.end_lineno or one.lineno) - one.lineno + 1
                if size > (MAX_CLASS if isinstance(one, ast.ClassDef) else MAX_FUNCTION):
                    found.append((name, size))
            visit(one, name)

    visit(ast.parse(source), "")
    return found


def test_no_folder_file_class_or_function_is_bigger_than_it_should_be() -> None:
    found = sizes()
    grown = {place: size for place, size in found.items() if size > TOO_BIG.get(place, 0)}
    assert grown == {}, "split it by what it does"


def test_the_list_of_what_is_too_big_names_nothing_that_is_small_enough() -> None:
    assert sorted(set(TOO_BIG) - set(sizes())) == [], "take it out of the list"


def test_the_adapters_need_no_exception() -> None:
    assert [place for place in TOO_BIG if place.startswith("metaflow_adapters")] == []


@pytest.mark.parametrize(("lines", "is_too_long"), [(MAX_FUNCTION, False), (MAX_FUNCTION + 1, True)])
def test_a_method_is_measured_from_its_def_to_its_last_line(lines: int, is_too_long: bool) -> None:
    body = "".join(f"        x = {number}\n" for number in range(lines - 1))
    found = too_long(f"class A:\n    def method(self):\n{body}")
    assert found == ([("A.method", lines)] if is_too_long else [])
