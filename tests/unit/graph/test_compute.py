from __future__ import annotations

from typing import Any

import pytest

from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.compute import Compute, compute_of, merge_resources, parse_compute
from metaflow_orchestration.graph.model import Decorator, Step, StepKind


def step_of(**decorators: dict[str, Any]) -> Step:
    return Step(
        name="train",
        kind=StepKind.LINEAR,
        decorators=tuple(Decorator(name=name, attributes=attributes) for name, attributes in decorators.items()),
    )


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (step_of(), Compute.LOCAL),
        (step_of(retry={}, resources={"cpu": 2}), Compute.LOCAL),
        (step_of(retry={}, kubernetes={}), Compute.KUBERNETES),
        (step_of(batch={}), Compute.BATCH),
    ],
)
def test_the_decorators_say_where_a_step_runs(step: Step, expected: Compute) -> None:
    assert compute_of(step) is expected


def test_a_name_that_is_none_is_refused_with_those_that_are() -> None:
    assert parse_compute("batch", "F") is Compute.BATCH
    with pytest.raises(
        InvalidOptionError, match=r"flow F step train: compute is 'cloud'.*'local', 'kubernetes', 'batch'"
    ):
        parse_compute("cloud", "F", "train")


def test_resources_are_merged_as_metaflow_merges_them() -> None:
    step = step_of(resources={"cpu": 2, "memory": 100, "gpu": 1, "shared_memory": None, "disk": None})
    own = {"cpu": "1", "memory": "4096", "disk": "10240", "gpu": None, "shared_memory": 5, "image": "x"}
    assert merge_resources(step, own) == {
        "cpu": "2.0", "memory": "4096.0", "disk": "10240", "gpu": 1, "shared_memory": 5, "image": "x",
    }  # fmt: skip
    # What the platform has no word for stays away.
    assert "disk" not in merge_resources(step_of(resources={"disk": 5}), {"cpu": "1"})
