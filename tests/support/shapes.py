"""The graph shapes that every target runs, with the same flow files."""

from __future__ import annotations

import os

import pytest

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


def without_contained(*also: str) -> list[Shape]:
    """Return the shapes that contain all others, or of all with `TEST_ALL_SHAPES=1`.

    For where each task takes seconds of the machine, as a pod or a job does.

    :param also: what to leave out besides.
    """
    left_out = () if os.environ.get("TEST_ALL_SHAPES") else (*_CONTAINED, *also)
    return [(name, *shape) for name, shape in zip(IDS, SHAPES, strict=True) if name not in left_out]


def asked_for(shapes: list[Shape], request: pytest.FixtureRequest) -> list[Shape]:
    """Return those of the shapes that a test of this session runs."""
    asked = {one.callspec.params.get("name") for one in request.session.items if hasattr(one, "callspec")}
    return [one for one in shapes if one[0] in asked]
