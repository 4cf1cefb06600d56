"""The graph shapes that every target runs, with the same flow files."""

from __future__ import annotations

import os

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
    "single_step",
    "static_split",
    "foreach",
    "foreach_in_split",
    "switch-long",
    "switch_in_split-True",
)
"""Those that stand in one of the others, too."""


def without_contained(*also: str) -> list[tuple[str, str, str, dict[str, object]]]:
    """Return id, shape, flow and parameters of the shapes that contain all others, or of all with `TEST_ALL_SHAPES=1`.

    For where each task takes seconds of the machine, as a pod or a job does.

    :param also: what to leave out besides.
    """
    left_out = () if os.environ.get("TEST_ALL_SHAPES") else (*_CONTAINED, *also)
    return [(name, *shape) for name, shape in zip(IDS, SHAPES, strict=True) if name not in left_out]
