"""What the import contracts of setup.cfg cannot say: no cycles between files."""

from __future__ import annotations

import grimp

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
