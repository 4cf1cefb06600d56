"""Every graph shape runs on a real Airflow with the artifacts of a local run."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.airflow import FlowRun, SharedAirflow
from tests.support.results import local_artifacts
from tests.support.shapes import IDS, SHAPES

pytestmark = pytest.mark.scheduler


@pytest.fixture(scope="module")
def shape_runs(airflow: SharedAirflow, flows: Path) -> dict[str, FlowRun]:
    """All shapes, started at once."""
    for shape in dict.fromkeys(shape for shape, _, _ in SHAPES):
        airflow.create(flows / f"{shape}.py")
    return {name: airflow.start(flow, flow, conf) for name, (_, flow, conf) in zip(IDS, SHAPES, strict=True)}


@pytest.mark.parametrize(
    ("name", "shape", "conf"), [(i, s, c) for i, (s, _, c) in zip(IDS, SHAPES, strict=True)], ids=IDS
)
def test_a_shape_produces_the_artifacts_of_a_local_run(
    shape_runs: dict[str, FlowRun],
    flows: Path,
    name: str,
    shape: str,
    conf: dict[str, object],
) -> None:
    run = shape_runs[name]
    run.wait()
    arguments = [f"--{key}={value}" for key, value in conf.items()]
    assert run.artifacts() == local_artifacts(flows / f"{shape}.py", run.flow, *arguments)


def test_a_foreach_join_sees_its_inputs_in_split_order_whatever_case_each_took(
    shape_runs: dict[str, FlowRun],
) -> None:
    run = shape_runs["switch_in_foreach"]
    run.wait()
    assert "order: [0],even0,odd1+,[0, 5]" in run.log("collect")
