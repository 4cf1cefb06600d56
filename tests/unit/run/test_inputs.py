"""Input paths from outcomes, shape by shape, with a view that the test makes up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import MissingResultError
from metaflow_orchestration.graph.identity import task_id
from metaflow_orchestration.graph.model import Step
from metaflow_orchestration.run.inputs import resolve_inputs
from metaflow_orchestration.run.outcome import TaskOutcome

Path = tuple[int, ...]


class View:
    """Holds outcomes by step; what is skipped or only in the datastore is said apart."""

    def __init__(self, *outcomes: tuple[str, TaskOutcome]) -> None:
        self.found: dict[str, dict[Path, TaskOutcome]] = {}
        for step, outcome in outcomes:
            self.found.setdefault(step, {})[outcome.path] = outcome
        self.dead: set[str] = set()
        self.datastore: dict[str, dict[Path, TaskOutcome]] = {}

    def outcomes(self, parent: Step, *, of_successes: bool = False) -> dict[Path, TaskOutcome]:
        return {} if of_successes and parent.name in self.dead else self.found.get(parent.name, {})

    def succeeded(self, parents: Sequence[Step]) -> dict[str, bool]:
        return {parent.name: parent.name not in self.dead for parent in parents}

    def stored(self, parent: Step, paths: Sequence[Path]) -> dict[Path, TaskOutcome]:
        held = self.datastore.get(parent.name, {})
        return {path: held[path] for path in paths if path in held}


def done(step: str, to: str, path: Path = (), splits: int | None = None, **more: object) -> tuple[str, TaskOutcome]:
    return step, TaskOutcome(
        path=path, task_id=task_id(step, path), next_steps=(to,), num_splits=splits, **more  # type: ignore[arg-type]
    )  # fmt: skip


Compiled = Callable[..., Manifest]


def resolve(compiled: Compiled, shape: str, step: str, items: list[Path], view: View) -> dict[Path, tuple[str, ...]]:
    graph = compiled(shape).graph
    return resolve_inputs(graph, graph.step(step), items, view)


def test_a_step_takes_the_task_before_it(compiled: Compiled) -> None:
    view = View(done("start", "middle"))
    assert resolve(compiled, "linear", "middle", [()], view) == {(): ("start/t-start",)}


def test_every_first_step_of_a_body_takes_the_foreach_task(compiled: Compiled) -> None:
    view = View(done("start", "upper", splits=3))
    assert resolve(compiled, "foreach", "upper", [(0,), (2,)], view) == {
        (0,): ("start/t-start",),
        (2,): ("start/t-start",),
    }


def test_a_foreach_join_takes_all_tasks_in_split_order(compiled: Compiled) -> None:
    bodies = [done("upper", "gather", (index,)) for index in (2, 0, 10, 1, *range(3, 10))]
    view = View(done("start", "upper", splits=11), *bodies)
    expected = tuple(f"upper/t-upper-{index}" for index in range(11))
    assert resolve(compiled, "foreach", "gather", [()], view) == {(): expected}


def test_results_of_an_earlier_longer_foreach_are_left_out(compiled: Compiled) -> None:
    view = View(done("start", "upper", splits=2), *(done("upper", "gather", (index,)) for index in range(5)))
    assert resolve(compiled, "foreach", "gather", [()], view) == {(): ("upper/t-upper-0", "upper/t-upper-1")}


def test_an_inner_join_takes_only_the_tasks_of_its_own_index(compiled: Compiled) -> None:
    view = View(
        done("work", "leaf", (1, 0), splits=2),
        *(done("leaf2", "deep_join", path) for path in ((0, 0, 0), (1, 0, 0), (1, 0, 1), (1, 1, 0))),
    )
    assert resolve(compiled, "nested_foreach", "deep_join", [(1, 0)], view) == {
        (1, 0): ("leaf2/t-leaf2-1-0-0", "leaf2/t-leaf2-1-0-1")
    }


def test_a_split_join_takes_one_task_per_branch_in_source_order(compiled: Compiled) -> None:
    view = View(done("alpha2", "outer"), done("inner", "outer"))
    assert resolve(compiled, "static_split", "outer", [()], view) == {(): ("inner/t-inner", "alpha2/t-alpha2")}


def test_a_step_that_the_switch_did_not_choose_gets_nothing(compiled: Compiled) -> None:
    view = View(done("start", "meet"))
    assert resolve(compiled, "switch", "detour", [()], view) == {}


def test_where_branches_meet_the_executed_one_is_the_input(compiled: Compiled) -> None:
    view = View(done("start", "detour"), done("detour", "case_y"), done("case_y2", "meet"))
    view.dead = {"case_x"}
    assert resolve(compiled, "switch", "meet", [()], view) == {(): ("case_y2/t-case_y2",)}


def test_an_xcom_left_behind_by_a_task_that_is_skipped_now_does_not_count(compiled: Compiled) -> None:
    view = View(done("start", "meet"), done("case_x", "meet"))
    view.dead = {"case_x", "case_y2"}
    assert resolve(compiled, "switch", "meet", [()], view) == {(): ("start/t-start",)}


def test_a_join_after_a_gang_takes_all_nodes(compiled: Compiled) -> None:
    view = View(done("train", "gather", gang=("t-train", "t-train_node_1", "t-train_node_2")))
    assert resolve(compiled, "parallel", "gather", [()], view) == {
        (): ("train/t-train", "train/t-train_node_1", "train/t-train_node_2")
    }


def test_a_result_without_a_report_is_found_in_the_datastore(compiled: Compiled) -> None:
    view = View(done("start", "upper", splits=2), done("upper", "gather", (0,)))
    _, missing = done("upper", "gather", (1,))
    view.datastore = {"upper": {(1,): missing}}
    assert resolve(compiled, "foreach", "gather", [()], view) == {(): ("upper/t-upper-0", "upper/t-upper-1")}


def test_a_parent_marked_as_success_without_a_result_is_named(compiled: Compiled) -> None:
    with pytest.raises(MissingResultError, match="start counts as successful in Airflow but has no Metaflow result"):
        resolve(compiled, "linear", "middle", [()], View())


def test_a_join_that_lacks_some_of_its_inputs_says_how_many(compiled: Compiled) -> None:
    view = View(done("start", "upper", splits=3), done("upper", "gather", (0,)))
    with pytest.raises(MissingResultError, match=r"flow ForeachFlow step gather: has 1 of the 3 inputs"):
        resolve(compiled, "foreach", "gather", [()], view)
