"""Graph shapes with their steps in pods of a real Kubernetes, started by an Airflow outside of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.support.airflow import FlowRun
from tests.support.decorated import assert_decorated
from tests.support.pods import Pods
from tests.support.results import local_artifacts
from tests.support.shapes import GRAPH_ONLY, asked_for, shape_parameters

pytestmark = [pytest.mark.scheduler, pytest.mark.kubernetes]


@pytest.fixture(scope="module")
def runs(pods: Pods, flows: Path, request: pytest.FixtureRequest) -> dict[str, FlowRun]:
    """A run of each shape that is asked for, all at once."""
    wanted = asked_for(request)
    for shape in dict.fromkeys(shape for _, shape, _, _ in wanted):
        pods.deploy(flows / f"{shape}.py", "--with", "kubernetes")
    return {name: pods.airflow.start(flow, flow, conf) for name, _, flow, conf in wanted}


@pytest.mark.parametrize(
    ("name", "shape", "conf"),
    # A pod runs one task, whatever the graph; one gang runs in test_kubernetes.py, one in jobs of test_batch.py.
    shape_parameters(*GRAPH_ONLY, "parallel"),
)
def test_a_shape_in_pods_produces_the_artifacts_of_a_local_run(
    pods: Pods, runs: dict[str, FlowRun], flows: Path, name: str, shape: str, conf: dict[str, object]
) -> None:
    run = runs[name]
    run.wait(timeout=900)
    given = [f"--{key}={value}" for key, value in conf.items()]
    assert pods.artifacts(run) == local_artifacts(flows / f"{shape}.py", run.flow, *given)


def test_retry_catch_environment_and_secrets_are_those_of_a_local_run(pods: Pods, flows: Path) -> None:
    pods.deploy(flows / "containers/decorated.py", "--with", "kubernetes")
    run = pods.airflow.start("DecoratedFlow", "DecoratedFlow")
    run.wait(timeout=600)
    assert_decorated(pods.artifacts(run))
    assert len(pods.store.cards(run.flow, run.run_id)) == 1


@pytest.mark.extended
def test_a_foreach_beyond_the_map_limit_is_packed_and_each_of_its_tasks_has_a_pod(pods: Pods, flows: Path) -> None:
    pods.deploy(flows / "aws/wide.py", "--with", "kubernetes")
    run = pods.airflow.start("WideFlow", "WideFlow", {"splits": 9})
    run.wait(timeout=300)
    assert pods.artifacts(run)["join"][((), ())]["results"] == list(range(9))
    # At most 8 instances for 9 tasks: two by two.
    assert len([key for key in run.instances() if key[0] == "body"]) == 5
    started = re.findall(r"Building pod (wideflow-body-\S+)", run.log("body", map_index=0))
    assert len(set(started)) == len(started) == 2
