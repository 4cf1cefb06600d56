"""The index contexts of a foreach in a foreach."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.task_runs import FlowRun, MemoryMetaflow, at

Start = Callable[..., FlowRun]


def test_the_splits_of_all_outer_tasks_are_one_list_in_split_order(start: Start, metaflow: MemoryMetaflow) -> None:
    sizes = {"t-0": 1, "t-1": 2}
    metaflow.outcome = lambda call, document: (
        {**document, "num_splits": sizes[at(call)], "values": ["a", "b"]} if call.step.name == "fan" else document
    )
    run = start("nested_foreach")
    run.run_all("start", "prepare", "fan", "fan-splits", "work")
    assert run.value("fan-splits") == [
        {"items": [[0, 0]], "parents": [0], "label": "0: a"},
        {"items": [[1, 0]], "parents": [1], "label": "1: a"},
        {"items": [[1, 1]], "parents": [1], "label": "1: b"},
    ]
    assert [metaflow.inputs("work", task) for task in ("t-0-0", "t-1-0", "t-1-1")] == [
        ["fan/t-0"],
        ["fan/t-1"],
        ["fan/t-1"],
    ]


def test_outer_tasks_that_took_another_branch_have_no_splits(start: Start, metaflow: MemoryMetaflow) -> None:
    kinds = {"t-0": "even", "t-1": "many"}
    metaflow.outcome = lambda call, document: (
        {**document, "next": [kinds[at(call)]]} if call.step.name == "decide" else document
    )
    run = start("switch_in_foreach")
    run.run_all("start", "decide")
    assert run.run("even", 0) == "success"
    assert [run.run("many", index).state for index in (0, 1)] == ["skipped", "success"]
    run.run_all("many-splits", "part")
    assert metaflow.ran("part") == ["t-1-0", "t-1-1"]
    assert run.run("parts_join", 0) == "skipped"
    assert run.run("parts_join", 1) == "success"
    assert metaflow.inputs("parts_join", "t-1") == ["part/t-1-0", "part/t-1-1"]
    run.run_all("collect")
    assert metaflow.inputs("collect") == ["even/t-0", "parts_join/t-1"]
    # All of that was reported: nothing had to be looked for.
    assert metaflow.probed == []


def test_splits_of_which_no_outer_task_was_run_are_skipped(start: Start, metaflow: MemoryMetaflow) -> None:
    metaflow.outcome = lambda call, document: {**document, "next": ["even"]} if call.step.name == "decide" else document
    run = start("switch_in_foreach")
    run.run_all("start", "decide", "even")
    assert [run.run("many", index).state for index in (0, 1)] == ["skipped", "skipped"]
    assert run.run("many-splits") == "skipped"
    assert run.value("many-splits") is None


def test_a_wide_join_inside_a_foreach_reads_all_outcomes_in_one_request(start: Start, metaflow: MemoryMetaflow) -> None:
    metaflow.outcome = lambda call, document: {
        **document,
        **({"num_splits": 1} if call.step.name == "start" else {}),
        **({"num_splits": 40} if call.step.name == "many" else {}),
        **({"next": ["many"]} if call.step.name == "decide" else {}),
    }
    run = start("switch_in_foreach")
    run.run_all("start", "decide", "many", "many-splits", "part")
    run.requests.clear()
    run.run_all("parts_join")
    assert metaflow.inputs("parts_join", "t-0") == [f"part/t-0-{index}" for index in range(40)]
    assert sum(one.type == "GetXCom" and one.task_id == "part" for one in run.requests) == 0
