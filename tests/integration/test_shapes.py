"""Every graph shape runs on a real Airflow with the artifacts of a local run."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.airflow import FlowRun, SharedAirflow
from tests.support.results import local_artifacts
from tests.support.shapes import asked_for, shape_parameters

pytestmark = pytest.mark.scheduler


@pytest.fixture(scope="module")
def runs(airflow: SharedAirflow, flows: Path, request: pytest.FixtureRequest) -> dict[str, FlowRun]:
    """A run of each shape that is asked for, all at once."""
    wanted = asked_for(request)
    for shape in dict.fromkeys(shape for _, shape, _, _ in wanted):
        airflow.create(flows / f"{shape}.py")
    return {name: airflow.start(flow, flow, conf) for name, _, flow, conf in wanted}


@pytest.mark.parametrize(("name", "shape", "conf"), shape_parameters())
def test_a_shape_produces_the_artifacts_of_a_local_run(
    runs: dict[str, FlowRun],
    flows: Path,
    name: str,
    shape: str,
    conf: dict[str, object],
) -> None:
    run = runs[name]
    run.wait()
    arguments = [f"--{key}={value}" for key, value in conf.items()]
    assert run.artifacts() == local_artifacts(flows / f"{shape}.py", run.flow, *arguments)


def test_a_foreach_join_sees_its_inputs_in_split_order_whatever_case_each_took(
    runs: dict[str, FlowRun], airflow: SharedAirflow, flows: Path
) -> None:
    shape = "switch_in_foreach"
    if shape not in runs:
        airflow.create(flows / f"{shape}.py")
        runs[shape] = airflow.start("SwitchInForeachFlow", "SwitchInForeachFlow")
    run = runs[shape]
    run.wait()
    assert "order: [0],even0,odd1+,[0, 5]" in run.log("collect")
