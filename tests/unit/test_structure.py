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
    # One literal, which Airflow asks for and a test compares with provider.yaml: pieces of it would be harder to read.
    "airflow_provider_metaflow/get_provider_info.py get_provider_info": 123,
}
"""What is bigger than it should be, and why. The list may only get shorter, and a number only lower."""


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


def _lines(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def too_long(source: str) -> list[tuple[str, int]]:
    """Return the qualified names and lengths of classes and functions that are too long.

    Their own docstrings do not count: what is public says each parameter, what it raises, and an example.
    """
    found = []

    def visit(node: ast.AST, within: str) -> None:
        for one in ast.iter_child_nodes(node):
            name = within
            if isinstance(one, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                name = f"{within}.{one.name}" if within else one.name
                size = _lines(one) - (_lines(one.body[0]) if ast.get_docstring(one) is not None else 0)
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
def test_a_method_is_measured_without_its_docstring(lines: int, is_too_long: bool) -> None:
    body = "".join(f"        x = {number}\n" for number in range(lines - 1))
    text = '        """What it does.\n\n        More of it.\n        """\n'
    for documented in ("", text):
        found = too_long(f"class A:\n    def method(self):\n{documented}{body}")
        assert found == ([("A.method", lines)] if is_too_long else [])


MAX_FREE_DICTS = 5
"""Of ``dict[str, Any]`` in 1,000 lines: documents that cross a process are typed, formats of others are passed on."""


@pytest.mark.parametrize("package", PACKAGES)
def test_documents_are_typed(package: str) -> None:
    (folder,) = (ROOT / one / package for one in ("provider", "adapters") if (ROOT / one / package).is_dir())
    sources = [path.read_text() for path in sorted(folder.rglob("*.py"))]
    lines = sum(source.count("\n") for source in sources)
    free = sum(source.count("dict[str, Any]") for source in sources)
    assert free * 1000 / lines <= MAX_FREE_DICTS, f"{free} dict[str, Any] in {lines} lines"
