"""Index contexts: what the list holds over which a segment is mapped. Free of Airflow.

One context is a JSON object ``{"items": [[3, 0], …], "parents": [1], "label": "…"}``: the index paths of the Metaflow
tasks that one mapped task instance stands for (several when there are more than ``max_map_length``), and the map
indexes of the foreach task that they split from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

IndexPath = tuple[int, ...]


def split_contexts(
    splits: Sequence[tuple[IndexPath, int, Sequence[str] | None, int]], max_length: int, pack_size: int | None = None
) -> list[dict[str, Any]]:
    """Return the contexts of all splits of a foreach, at most ``max_length`` of them.

    :param splits: for each finished task of the foreach step: its index path, number of splits, labels of the splits
        if it has any, and the map index of its task instance.
    :param max_length: Airflow's ``[core] max_map_length``.
    :param pack_size: how many tasks an instance takes, where that is not to be as few as the limit allows.
    """
    flat = [
        ((*path, index), parent, labels[index] if labels and index < len(labels) else str(index))
        for path, count, labels, parent in splits
        for index in range(count)
    ]
    size = max(1, math.ceil(len(flat) / max_length), pack_size or 1)
    return [_context(flat[start : start + size]) for start in range(0, len(flat), size)]


def _context(pack: Sequence[tuple[IndexPath, int, str]]) -> dict[str, Any]:
    first, last = pack[0], pack[-1]
    label = first[2] if len(pack) == 1 else f"{_dotted(first[0])} … {_dotted(last[0])}"
    outer = first[0][:-1]
    if len(pack) == 1 and outer:
        label = f"{_dotted(outer)}: {label}"
    return {
        "items": [list(path) for path, _, _ in pack],
        "parents": sorted({parent for _, parent, _ in pack}),
        "label": label,
    }


def _dotted(path: IndexPath) -> str:
    return ".".join(map(str, path))


def context_items(context: dict[str, Any]) -> list[IndexPath]:
    """Return the index paths of a context.

    :param context: one element of the list.
    """
    return [tuple(path) for path in context["items"]]


def map_indexes_under(contexts: Sequence[dict[str, Any]], outer: Sequence[IndexPath]) -> list[int]:
    """Return which task instances of an inner segment work for given indexes of the outer foreach.

    :param contexts: contexts of the inner segment.
    :param outer: index paths of the outer one.
    """
    wanted = set(outer)
    return [
        number
        for number, context in enumerate(contexts)
        if any(tuple(path[:-1]) in wanted for path in context["items"])
    ]
