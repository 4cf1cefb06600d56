"""Index contexts: what the list holds over which a segment is mapped. Free of Airflow.

One context is a JSON object ``{"items": [[3, 0], …], "parents": [1], "label": "…"}``: the index paths of the Metaflow
tasks that one mapped task instance stands for (several when there are more than ``max_map_length``), and the map
indexes of the foreach task that they split from. Successive splits of one foreach are one item, ``[3, [0, 977]]`` from
the first to the one after the last: every task instance reads the whole list, so it must stay small.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from metaflow_orchestration.exceptions import EditedXComError, UnsupportedFeatureError

IndexPath = tuple[int, ...]

MAX_SPLITS = 1_000_000
"""Most splits of a foreach, over all tasks that open it."""

MAX_ITEMS = 50_000
"""Most items in the list of contexts, about 1 MB: up to 1,024 task instances read it."""

_Split = tuple[IndexPath, int, str]


def split_contexts(
    splits: Sequence[tuple[IndexPath, int, Sequence[str] | None, int]], max_length: int, pack_size: int | None = None
) -> list[dict[str, Any]]:
    """Return the contexts of all splits of a foreach, at most ``max_length`` of them.

    :param splits: for each finished task of the foreach step: its index path, number of splits, labels of the splits
        if it has any, and the map index of its task instance.
    :param max_length: Airflow's ``[core] max_map_length``.
    :param pack_size: how many tasks an instance takes, where that is not to be as few as the limit allows.
    :raises UnsupportedFeatureError: if there are more splits than a list of contexts can hold.
    """
    total = sum(count for _, count, _, _ in splits)
    _check_size(total, MAX_SPLITS)
    size = _pack_size(total, max_length, pack_size)
    flat = _flat(splits)
    contexts = []
    while pack := list(islice(flat, size)):
        contexts.append(_context(pack))
    _check_size(sum(len(context["items"]) for context in contexts), MAX_ITEMS)
    return contexts


def _pack_size(total: int, max_length: int, pack_size: int | None = None) -> int:
    return max(1, math.ceil(total / max_length), pack_size or 1)


def packed(total: int, max_length: int) -> int:
    """Return how many mapped task instances a number of tasks makes.

    :param total: the tasks.
    :param max_length: Airflow's ``[core] max_map_length``.
    """
    return math.ceil(total / _pack_size(total, max_length))


def _check_size(found: int, limit: int) -> None:
    if found > limit:
        raise UnsupportedFeatureError(
            f"its foreach has {found:,} splits or parts of them; Airflow can map over {limit:,}.",
            hint="Loop over chunks: give several items to each split.",
        )


def _flat(splits: Sequence[tuple[IndexPath, int, Sequence[str] | None, int]]) -> Iterator[_Split]:
    for path, count, labels, parent in splits:
        for index in range(count):
            yield (*path, index), parent, labels[index] if labels and index < len(labels) else str(index)


def _context(pack: Sequence[_Split]) -> dict[str, Any]:
    first, last = pack[0], pack[-1]
    label = first[2] if len(pack) == 1 else f"{_dotted(first[0])} … {_dotted(last[0])}"
    outer = first[0][:-1]
    if len(pack) == 1 and outer:
        label = f"{_dotted(outer)}: {label}"
    return {
        "items": list(_ranges(pack)),
        "parents": sorted({parent for _, parent, _ in pack}),
        "label": label,
    }


def _ranges(pack: Sequence[_Split]) -> Iterator[list[Any]]:
    """Yield the index paths of a pack, those that follow each other as one."""
    start = 0
    for number in range(1, len(pack) + 1):
        first, before = pack[start][0], pack[number - 1][0]
        if number < len(pack) and pack[number][0] == (*before[:-1], before[-1] + 1):
            continue
        yield [*first[:-1], [first[-1], before[-1] + 1]] if number - start > 1 else list(first)
        start = number


def _dotted(path: IndexPath) -> str:
    return ".".join(map(str, path))


def context_items(context: dict[str, Any]) -> list[IndexPath]:
    """Return the index paths of a context.

    :param context: one element of the list.
    """
    return [path for item in context["items"] for path in _expanded(item)]


def _expanded(item: Sequence[Any]) -> list[IndexPath]:
    *outer, last = item or [()]
    if not item:
        return [()]
    indexes = range(*last) if isinstance(last, (list, tuple)) else (last,)
    return [(*outer, index) for index in indexes]


def check_contexts(contexts: Any, depth: int, map_index: int | None = None) -> list[dict[str, Any]]:
    """Return contexts as :func:`split_contexts` makes them; users may edit the XCom that holds them.

    :param contexts: content of the XCom.
    :param depth: number of foreaches around the tasks.
    :param map_index: the only one that is looked at; None for all.
    :raises EditedXComError: if they are of another form.
    """
    if isinstance(contexts, list) and map_index is not None:
        contexts = contexts[map_index : map_index + 1] or None
    if isinstance(contexts, list) and all(_is_context(one, depth) for one in contexts):
        items = [item for one in contexts for item in one["items"]]
        total = sum(item[-1][1] - item[-1][0] if isinstance(item[-1], list) else 1 for item in items)
        if total <= MAX_SPLITS and len(items) <= MAX_ITEMS:
            return contexts
    raise EditedXComError(
        "the list of the splits of its foreach holds what is no index path.",
        hint="It was edited, or is of another release: clear the foreach step, so that it runs again.",
    )


def _is_context(one: Any, depth: int) -> bool:
    return (
        isinstance(one, dict)
        and one.keys() == {"items", "parents", "label"}
        and isinstance(one["label"], str)
        and _are_numbers(one["parents"], -1)
        and isinstance(one["items"], list)
        and all(isinstance(item, list) and len(item) == depth and _is_path(item) for item in one["items"])
    )


def _is_path(item: list[Any]) -> bool:
    last = item[-1]
    if isinstance(last, list):
        return _are_numbers(item[:-1], 0) and _are_numbers(last, 0) and len(last) == 2 and last[0] < last[1]
    return _are_numbers(item, 0)


def _are_numbers(values: Any, least: int) -> bool:
    return isinstance(values, list) and all(type(one) is int and one >= least for one in values)


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
