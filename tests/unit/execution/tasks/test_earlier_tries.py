"""Results of earlier tries are taken: since the last clear, and unless a container is still to be seen to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest

from airflow_provider_metaflow.execution.tasks.earlier_tries import EarlierTries, first_attempt
from metaflow_orchestration.graph.identity import task_id
from metaflow_orchestration.graph.model import Step, StepKind
from metaflow_orchestration.run.commands import StepCall

BODY = Step(name="body", kind=StepKind.LINEAR)
LOOP = Step(name="loop", kind=StepKind.SWITCH, recursive=True)
GANG = Step(name="gang", kind=StepKind.LINEAR, gang=True)


class Datastore:
    """Holds the attempt that finished each task of a step, by its index path and iteration."""

    def __init__(self, step: Step, attempts: Mapping[tuple[int, ...] | int, int]) -> None:
        self.attempts = {
            task_id(step.name, at) if isinstance(at, tuple) else task_id(step.name, iteration=at): attempt
            for at, attempt in attempts.items()
        }

    def probe(
        self, step: str, run_id: str, task_ids: Sequence[str], *, min_attempt: int = 0, stop: bool = False
    ) -> list[dict[str, Any] | None]:
        found: list[dict[str, Any] | None] = []
        for name in task_ids:
            is_done = self.attempts.get(name, -1) >= min_attempt
            found.append({"task_id": name} if is_done else None)
            if stop and not is_done:
                break
        return found


def call(step: Step, *path: int, iteration: int = 0) -> StepCall:
    name = task_id(step.name, path, iteration=iteration)
    return StepCall(step=step, run_id="run", task_id=name, attempt=1, max_user_retries=1, inputs=())


def tries(step: Step, minimum: int | None, store: Datastore, lingering: Iterable[str] = ()) -> EarlierTries:
    local: Any = store
    return EarlierTries(step, minimum, lambda: local, lambda _: frozenset(lingering))


@pytest.mark.parametrize(
    ("before", "generation", "expected"), [(0, 0, 0), (3, 0, 3), (6, 1, 0), (7, 1, 1), (8, 1, 2), (2, 1, 0)]
)
def test_what_was_before_the_last_clear_does_not_count(before: int, generation: int, expected: int) -> None:
    assert first_attempt(before, generation=generation) == expected


def test_finished_tasks_of_a_pack_are_taken_and_others_are_not() -> None:
    store = Datastore(BODY, {(0,): 0, (1,): 1, (2,): 2})
    calls = {(index,): call(BODY, index) for index in range(4)}
    assert set(tries(BODY, 0, store).finished(calls)) == {(0,), (1,), (2,)}
    assert set(tries(BODY, 1, store).finished(calls)) == {(1,), (2,)}
    assert set(tries(BODY, 1, store, ["t-body-1"]).finished(calls)) == {(2,)}
    assert tries(BODY, None, store).finished(calls) == {}


@pytest.mark.parametrize("step", [LOOP, GANG])
def test_the_first_result_of_a_recursion_or_a_gang_is_not_its_end(step: Step) -> None:
    assert tries(step, 0, Datastore(step, {(): 0})).finished({(): call(step)}) == {}


@pytest.mark.parametrize("done", [0, 1, 255, 256, 257, 512])
def test_a_recursion_goes_on_after_its_last_finished_iteration(done: int) -> None:
    store = Datastore(LOOP, dict.fromkeys(range(done), 0))
    iteration, outcome = tries(LOOP, 0, store).last_iteration((), lambda number: call(LOOP, iteration=number))
    assert (iteration, outcome and outcome.task_id) == (
        done,
        task_id("loop", iteration=done - 1) if done else None,
    )


def test_an_iteration_whose_container_is_there_is_seen_to_once_more() -> None:
    earlier = tries(LOOP, 0, Datastore(LOOP, {0: 0, 1: 0}), ["t-loop-r1"])
    iteration, outcome = earlier.last_iteration((), lambda number: call(LOOP, iteration=number))
    assert outcome is not None
    assert (iteration, outcome.task_id) == (1, "t-loop")


def test_a_recursion_starts_anew_after_a_clear() -> None:
    earlier = tries(LOOP, None, Datastore(LOOP, {0: 0, 1: 0}))
    assert earlier.last_iteration((), lambda number: call(LOOP, iteration=number)) == (0, None)
