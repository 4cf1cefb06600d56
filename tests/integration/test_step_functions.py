"""Flows on AWS Step Functions: moto's interpreter with the mends of `tests/engines/aws/`, jobs as processes."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.results import local_artifacts
from tests.support.shapes import CONTROL_FLOW, asked_for, shape_parameters
from tests.support.step_functions import Execution, StepFunctions


@pytest.fixture(scope="module")
def runs(step_functions: StepFunctions, flows: Path, request: pytest.FixtureRequest) -> dict[str, Execution]:
    """A run of each shape that is asked for, all at once."""
    wanted = asked_for(request)
    for shape in dict.fromkeys(shape for _, shape, _, _ in wanted):
        step_functions.create(flows / f"{shape}.py", name=shape)
    return {
        name: step_functions.start(shape, flow, {"Parameters": conf} if conf else None)
        for name, shape, flow, conf in wanted
    }


@pytest.mark.parametrize(("name", "shape", "conf"), shape_parameters(*CONTROL_FLOW))
def test_a_shape_on_step_functions_produces_the_artifacts_of_a_local_run(
    runs: dict[str, Execution], flows: Path, name: str, shape: str, conf: dict[str, object]
) -> None:
    run = runs[name]
    run.wait(timeout=900)
    given = [f"--{key}={value}" for key, value in conf.items()]
    assert run.artifacts() == local_artifacts(flows / f"{shape}.py", run.flow, *given)


@pytest.mark.extended
def test_a_foreach_of_one_step_costs_the_same_however_wide_it_is(step_functions: StepFunctions, flows: Path) -> None:
    """Events and transitions; Metaflow's own state machine takes 29 + 8 n events and 5 + n transitions."""
    step_functions.create(flows / "aws/wide.py", name="wide")
    for splits in (1, 6):
        run = step_functions.start("wide", "WideFlow", {"Parameters": {"splits": splits}})
        run.wait()
        assert run.artifacts()["join"][((), ())]["results"] == list(range(splits))
        assert (run.transitions(), len(run.history())) == (5, 31)
