"""Flows on a real Argo Workflows, its controller in a real Kubernetes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.support.argo import Argo, Workflow
from tests.support.results import local_artifacts
from tests.support.shapes import CONTROL_FLOW, asked_for, shape_parameters

pytestmark = [pytest.mark.scheduler, pytest.mark.kubernetes]


@pytest.fixture(scope="module")
def runs(argo: Argo, flows: Path, request: pytest.FixtureRequest) -> Iterator[dict[str, Workflow]]:
    """A run of each shape that is asked for, all at once."""
    wanted = asked_for(request)

    def create(shape: str) -> None:
        argo.create(flows / f"{shape}.py", name=shape.replace("_", "-"))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(create, dict.fromkeys(shape for _, shape, _, _ in wanted)))
    yield {
        name: argo.start(shape.replace("_", "-"), flow, {key: str(value) for key, value in conf.items()})
        for name, shape, flow, conf in wanted
    }
    argo.clean()


# A gang runs in test_argo_features.py, too.
@pytest.mark.parametrize(("name", "shape", "conf"), shape_parameters(*CONTROL_FLOW, "parallel"))
def test_a_shape_on_argo_produces_the_artifacts_of_a_local_run(
    runs: dict[str, Workflow], flows: Path, name: str, shape: str, conf: dict[str, object]
) -> None:
    run = runs[name]
    found = run.wait(timeout=900)
    given = [f"--{key}={value}" for key, value in conf.items()]
    assert run.artifacts() == local_artifacts(flows / f"{shape}.py", run.flow, *given)
    # One pod for each Metaflow task, and none beside them; the nodes of a gang are pods of a job.
    pods = [node for node in found["status"]["nodes"].values() if node["type"] == "Pod"]
    gangs = len([node for node in pods if node["templateName"] in ("train", "gang")])
    tasks = run.artifacts()
    workers = sum(len(step) for name, step in tasks.items() if name in ("train", "gang")) - gangs
    assert len(pods) == sum(len(step) for step in tasks.values()) - workers
