from __future__ import annotations

from metaflow_orchestration.run.contexts import context_items, map_indexes_under, split_contexts


def test_a_foreach_has_one_context_per_split_with_its_value_as_label() -> None:
    assert split_contexts([((), 2, ["red", "blue"], -1)], 1024) == [
        {"items": [[0]], "parents": [-1], "label": "red"},
        {"items": [[1]], "parents": [-1], "label": "blue"},
    ]


def test_a_nested_foreach_is_flattened_in_split_order() -> None:
    contexts = split_contexts([((0,), 1, None, 0), ((1,), 2, ["a", "b"], 1)], 1024)
    assert [context["items"] for context in contexts] == [[[0, 0]], [[1, 0]], [[1, 1]]]
    assert [context["parents"] for context in contexts] == [[0], [1], [1]]
    assert [context["label"] for context in contexts] == ["0: 0", "1: a", "1: b"]


def test_more_splits_than_airflow_maps_are_packed_and_none_is_lost() -> None:
    contexts = split_contexts([((), 10_000, None, -1)], 1024)
    assert len(contexts) <= 1024
    items = [item for context in contexts for item in context_items(context)]
    assert items == [(index,) for index in range(10_000)]
    assert contexts[0]["label"] == "0 … 9"


def test_a_pack_size_gives_all_splits_to_as_few_instances_as_it_allows() -> None:
    assert len(split_contexts([((), 50, None, -1)], 1024, 10_000)) == 1
    assert len(split_contexts([((), 10_001, None, -1)], 1024, 10_000)) == 2


def test_exactly_the_limit_is_not_packed() -> None:
    assert len(split_contexts([((), 1024, None, -1)], 1024)) == 1024


def test_a_join_inside_a_foreach_finds_the_instances_of_its_own_index() -> None:
    contexts = split_contexts([((0,), 2, None, 0), ((1,), 3, None, 1)], 1024)
    assert map_indexes_under(contexts, [(1,)]) == [2, 3, 4]
    packed = split_contexts([((0,), 2, None, 0), ((1,), 3, None, 1)], 2)
    assert map_indexes_under(packed, [(1,)]) == [0, 1]
