"""The graph shapes that every target runs, with the same flow files."""

from __future__ import annotations

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
