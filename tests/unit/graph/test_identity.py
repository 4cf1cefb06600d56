from __future__ import annotations

import re

import pytest
from hypothesis import given, strategies

from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task import task_place
from metaflow_orchestration.graph.identity import (
    airflow_run_id,
    attempt_of,
    fallback_retries,
    first_run_id,
    is_old_task_id,
    numbered_run_id,
    old_task_id,
    run_number,
    task_id,
)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, "t-train"),
        ({"index_path": (3,)}, "t-train-3"),
        ({"index_path": (3, 0)}, "t-train-3-0"),
        ({"index_path": (3,), "iteration": 2}, "t-train-3-r2"),
        ({"iteration": 2, "generation": 1}, "t-train-r2-g1"),
    ],
)
def test_a_task_id_says_which_task_of_the_run_it_is(arguments: dict[str, object], expected: str) -> None:
    assert task_id("train", **arguments) == expected  # type: ignore[arg-type]
    old = expected.replace("-train", "")
    assert old_task_id(**arguments) == old  # type: ignore[arg-type]
    assert (is_old_task_id(old), is_old_task_id(expected)) == (True, False)


@pytest.mark.parametrize("step", ["größe", "x" * 65, "a" * 250, "größer", "ключ", "x" * 64 + "y"])
def test_long_and_foreign_names_of_steps_give_short_plain_task_ids_of_their_own(step: str) -> None:
    made = task_id(step, (3,), iteration=2)
    assert re.fullmatch(r"t-[A-Za-z0-9_]+\.[0-9a-f]{8}-3-r2", made)
    assert len(made) <= len("t--3-r2") + 64
    assert made != task_id(step + "_", (3,), iteration=2)
    assert made == task_place.task_id(step, (3,), 2)


@given(
    strategies.dictionaries(strategies.from_regex(r"\A[A-Za-z_][A-Za-z0-9_]{0,80}\Z"), strategies.just(0), min_size=2)
)
def test_no_two_steps_share_a_task_id_and_containers_compute_the_same(steps: dict[str, int]) -> None:
    paths: list[tuple[int, ...]] = [(), (0,), (1, 0)]
    ids = [task_id(step, path, iteration=number) for step in steps for path in paths for number in (0, 1)]
    assert len(set(ids)) == len(ids)
    assert ids == [task_place.task_id(step, path, number) for step in steps for path in paths for number in (0, 1)]


@pytest.mark.parametrize("number", [1, 2, 9, 10, 31])
def test_the_runs_of_one_dag_run_id_are_numbered(number: int) -> None:
    first = airflow_run_id("dag", "manual__1")
    made = numbered_run_id(first, number)
    assert (made == first) == (number == 1)
    assert run_number(made, first) == number
    assert first_run_id(made) == first


@pytest.mark.parametrize("end", ["-0", "-1", "-02", "-2\n", "-", "\n", "0", "-x", "/start", "-2-2"])
def test_what_has_another_form_is_no_run_of_a_dag_run_id(end: str) -> None:
    first = airflow_run_id("dag", "manual__1")
    assert run_number(first + end, first) is None


def test_a_run_id_is_no_integer_and_has_no_separator_of_input_paths() -> None:
    made = airflow_run_id("dag", "scheduled__2026-01-01T00:00:00+00:00")
    assert made.startswith("airflow-")
    assert not set("/,:!") & set(made)
    assert made != airflow_run_id("dag", "scheduled__2026-01-01T00:00:00+00:00", "group.")


@pytest.mark.parametrize(
    ("tries", "left", "error", "expected"),
    [
        # First of 1 + 2 user + 0 error attempts.
        (0, 2, 0, (0, 0, 2)),
        (2, 0, 0, (0, 2, 2)),
        # @retry(1) and @catch(3): attempts 0 and 1 run user code, 2 to 4 the fallback.
        (0, 4, 3, (0, 0, 1)),
        (1, 3, 3, (0, 1, 1)),
        (2, 2, 3, (0, 2, 1)),
        # The same step, cleared after its first try: user code again.
        (1, 4, 3, (0, 1, 2)),
        # Beyond six attempts the task id changes and the count starts anew.
        (6, 0, 0, (1, 0, 0)),
        (13, 1, 0, (2, 1, 2)),
        # A fallback may be the first attempt of a generation.
        (6, 2, 3, (1, 0, -1)),
    ],
)
def test_attempts_follow_from_the_schedulers_counters(
    tries: int, left: int, error: int, expected: tuple[int, int, int]
) -> None:
    made = attempt_of(tries, tries_left=left, error_retries=error)
    assert (made.generation, made.number, made.max_user_retries) == expected


@pytest.mark.parametrize(
    ("user", "error", "granted", "expected"),
    [
        (0, 3, 3, 3),
        (2, 3, 5, 3),
        # A cluster policy or an override leaves fewer: the fallback's go first.
        (0, 3, 1, 1),
        (0, 3, 0, 0),
        (2, 3, 3, 1),
        (2, 3, 1, 0),
        # More than asked for are user code's.
        (0, 3, 10, 3),
        (1, 0, 9, 0),
    ],
)
def test_the_retries_of_a_fallback_are_given_up_first(user: int, error: int, granted: int, expected: int) -> None:
    assert fallback_retries(user, error, granted=granted) == expected
