"""The order of kills, which a seed determines."""

from __future__ import annotations

from collections import Counter

from tests.support.faults import KINDS, planned

PAUSES = (1.0, 2.0)


def test_a_seed_gives_the_same_kinds_pauses_and_targets_again() -> None:
    assert planned(7, 30, PAUSES) == planned(7, 30, PAUSES)
    assert planned(7, 30, PAUSES) != planned(8, 30, PAUSES)


def test_each_kind_comes_up_as_often_as_the_others() -> None:
    assert Counter(one.kind for one in planned(1, 3 * len(KINDS), PAUSES)) == dict.fromkeys(KINDS, 3)


def test_nothing_is_away_for_longer_than_asked_for() -> None:
    faults = planned(1, 200, PAUSES, longest=10.0)
    assert all(1.0 <= one.away <= 10.0 and PAUSES[0] <= one.pause <= PAUSES[1] for one in faults)
    assert max(one.away for one in faults if one.kind == "disk") <= 4.0
