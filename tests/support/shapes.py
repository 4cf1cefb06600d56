"""The graph shapes that every target runs, with the same flow files."""

from __future__ import annotations

import pytest
from _pytest.mark import ParameterSet

SHAPES: list[tuple[str, str, dict[str, object]]] = [
    ("linear", "LinearFlow", {}),
    ("single_step", "SingleStepFlow", {}),
    ("custom_names", "CustomNamesFlow", {}),
    ("static_split", "StaticSplitFlow", {}),
    ("foreach", "ForeachFlow", {}),
    ("nested_foreach", "NestedForeachFlow", {}),
    ("split_in_foreach", "SplitInForeachFlow", {}),
    ("foreach_in_split", "ForeachInSplitFlow", {}),
    ("switch", "SwitchFlow", {"route": "long"}),
    ("switch", "SwitchFlow", {"route": "short"}),
    ("switch", "SwitchFlow", {"route": "leave"}),
    ("switch_in_foreach", "SwitchInForeachFlow", {}),
    ("switch_in_split", "SwitchInSplitFlow", {"wide": True}),
    ("switch_in_split", "SwitchInSplitFlow", {"wide": False}),
    ("recursion", "RecursionFlow", {}),
    ("parallel", "ParallelFlow", {}),
]
"""Shape, flow, parameters."""

IDS = ["-".join([shape, *map(str, conf.values())]) for shape, _, conf in SHAPES]

_CONTAINED = (
    "linear",
    "static_split",
    "foreach",
    "foreach_in_split",
    "switch-long",
    "switch_in_split-True",
)
"""Those that stand in one of the others, too."""


Shape = tuple[str, str, str, dict[str, object]]
"""Id, shape, flow and parameters."""


CONTROL_FLOW = (
    "single_step",
    "custom_names",
    "nested_foreach",
    "split_in_foreach",
    "switch-short",
    "switch-leave",
    "switch_in_foreach",
    "switch_in_split-False",
)
"""What differs in control flow only, which every engine is also tested on with random graphs, played in process."""


GRAPH_ONLY = (*CONTROL_FLOW, "recursion")
"""What differs in nothing that a pod or a job sees, where Airflow walks the graph and each of them runs one task."""


def shape_parameters(*also: str) -> list[ParameterSet]:
    """Return the parameters `name`, `shape` and `conf` of tests of all shapes.

    Shapes that stand in one of the others are for `make test-extended`.

    :param also: what is left to that besides.
    """
    left = (*_CONTAINED, *also)
    return [
        pytest.param(name, shape, conf, id=name, marks=[pytest.mark.extended] if name in left else [])
        for name, (shape, _, conf) in zip(IDS, SHAPES, strict=True)
    ]


def asked_for(request: pytest.FixtureRequest) -> list[Shape]:
    """Return those of the shapes that a test of this session and this module runs."""
    asked = {
        one.callspec.params.get("name")
        for one in request.session.items
        if hasattr(one, "callspec") and one.nodeid.startswith(f"{request.node.nodeid}::")
    }
    return [(name, *shape) for name, shape in zip(IDS, SHAPES, strict=True) if name in asked]
