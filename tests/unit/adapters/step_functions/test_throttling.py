"""AWS Batch takes 50 submissions a second from an account: no split of a wide foreach is lost to that.

The pauses are those of the Amazon States Language, the clock is the test's.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest
from tests.engines.aws.quotas import Throttle

from metaflow_adapters.step_functions import FlowMachine
from metaflow_adapters.step_functions.language.states import Map, Task

Make = Callable[..., FlowMachine]
SPLITS = 10_000


class Clock:
    """Time that passes as the test says."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def lost(splits: int, at_a_time: int, submissions: list[dict[str, Any]], runs: int = 1) -> int:
    """Return how many splits of some runs end since all tries of a submission were refused.

    :param splits: splits of the foreach of each run.
    :param at_a_time: how many of them run at a time; 0 for all.
    :param submissions: the retries for too many submissions, of each job of a split; jobs end at once.
    :param runs: how many such runs the account has.
    """
    clock, chance, order = Clock(), random.Random(7), itertools.count()
    throttle = Throttle(clock=clock)
    waiting = [splits - min(splits, at_a_time or splits)] * runs
    due = [(0.0, next(order), run, 0, 0) for run in range(runs) for _ in range(splits - waiting[run])]
    failed = 0
    while due:
        clock.now, _, run, job, tries = heapq.heappop(due)
        retry = submissions[job]
        if throttle.takes():
            if job + 1 < len(submissions):
                heapq.heappush(due, (clock.now, next(order), run, job + 1, 0))
                continue
        elif tries < retry["MaxAttempts"]:
            assert retry["JitterStrategy"] == "FULL"
            longest = retry.get("IntervalSeconds", 1) * retry.get("BackoffRate", 2) ** tries
            pause = chance.random() * min(longest, retry["MaxDelaySeconds"])
            heapq.heappush(due, (clock.now + pause, next(order), run, job, tries + 1))
            continue
        else:
            failed += 1
        if waiting[run]:
            waiting[run] -= 1
            heapq.heappush(due, (clock.now, next(order), run, 0, 0))
    return failed


def wide(machine: Make, max_workers: int | None) -> tuple[int, list[dict[str, Any]]]:
    """Return how many splits run at a time, and the retries of each job of a split."""
    made = machine("split_in_foreach", deployment={"max_workers": max_workers})
    # The foreach of several steps.
    whole = next(one for one in made.states.all_states() if isinstance(one, Map))
    jobs = [one for one in whole.body.all_states() if isinstance(one, Task) and "batch:submitJob" in one.resource]
    retries = [retry for one in jobs for retry in one.to_asl()["Retry"]]
    assert whole.max_concurrency is not None
    return whole.max_concurrency, [one for one in retries if one["ErrorEquals"] == ["Batch.AWSBatchException"]]


@pytest.mark.parametrize(("max_workers", "runs"), [(None, 1), (None, 3), (0, 1)])
def test_none_of_ten_thousand_splits_is_lost(machine: Make, max_workers: int | None, runs: int) -> None:
    at_a_time, submissions = wide(machine, max_workers)
    assert len(submissions) > 1
    assert lost(SPLITS, at_a_time, submissions, runs) == 0


def test_the_retries_of_metaflows_own_deployer_would_lose_some(machine: Make) -> None:
    """So the simulation finds what it looks for: ten tries, a minute between them at most."""
    _, submissions = wide(machine, None)
    stock = [{**one, "MaxAttempts": 10, "MaxDelaySeconds": 60} for one in submissions]
    assert lost(SPLITS, 0, stock) > 500


def test_a_missing_permission_ends_a_run_before_its_maps_begin(machine: Make) -> None:
    """AWS may give it the same name as too many submissions; the first step waits for minutes, not hours."""
    start = next(one for one in machine("linear").states.all_states() if one.name == "start").to_asl()
    retry = next(one for one in start["Retry"] if one["ErrorEquals"] == ["Batch.AWSBatchException"])
    assert sum(min(2**tries, retry["MaxDelaySeconds"]) for tries in range(retry["MaxAttempts"])) < 30 * 60
