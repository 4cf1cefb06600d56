"""One flow with most features on moto's Step Functions, its real tasks as processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.object_store import object_store
from tests.support.step_functions import StepFunctions, step_functions


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StepFunctions]:
    """Step Functions on moto, which looks often whether jobs have ended."""
    monkeypatch.setenv("TEST_STATES_POLL", "0.1")
    with object_store("127.0.0.1", tmp_path / "server.log") as store, step_functions(store) as found:
        yield found


def test_a_flow_with_most_features_leaves_the_artifacts_that_metaflow_would(aws: StepFunctions, flows: Path) -> None:
    """A split, a foreach as an array, a switch, a try that fails, a step that is caught, a parameter, a variable."""
    aws.create(flows / "aws/featured.py", name="featured")
    run = aws.start("featured", "FeaturedFlow", {"Parameters": {"size": 2}})
    run.wait(timeout=120)
    found = run.artifacts()
    whole = ((), ())
    assert {step: len(tasks) for step, tasks in found.items()} == {
        "start": 1, "fan": 1, "work": 2, "gather": 1, "decide": 1, "unlucky": 1, "reunite": 1, "meet": 1, "end": 1,
    }  # fmt: skip
    assert found["start"][whole]["size"] == 2
    assert found["meet"][whole]["found"] == [(0, "grün", 0), (10, "grün", 1)]
    assert found["decide"][whole]["way"] == "unlucky"
    assert (found["meet"][whole]["caught"], found["end"][whole]["done"]) == (True, True)
