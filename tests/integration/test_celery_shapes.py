"""Every graph shape on Celery workers of two hosts, each step on another host than the one before it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.airflow import FlowRun
from tests.support.celery import CeleryAirflow, celery_airflow, deploy
from tests.support.object_store import ObjectStore
from tests.support.results import local_artifacts
from tests.support.shapes import IDS, SHAPES, asked_for

pytestmark = [pytest.mark.scheduler, pytest.mark.extended]


@pytest.fixture(scope="module")
def celery(store: ObjectStore) -> Iterator[CeleryAirflow]:
    with celery_airflow(store) as started:
        yield started


@pytest.fixture(scope="module")
def runs(celery: CeleryAirflow, flows: Path, request: pytest.FixtureRequest) -> dict[str, FlowRun]:
    """A run of each shape that is asked for, all at once."""
    wanted = asked_for(request)
    for shape in dict.fromkeys(shape for _, shape, _, _ in wanted):
        deploy(celery, flows / f"{shape}.py")
    return {name: celery.airflow.start(flow, flow, conf) for name, _, flow, conf in wanted}


@pytest.mark.parametrize(
    ("name", "shape", "conf"),
    [(name, shape, conf) for name, (shape, _, conf) in zip(IDS, SHAPES, strict=True)],
    ids=IDS,
)
def test_a_shape_on_two_hosts_produces_the_artifacts_of_a_local_run(
    celery: CeleryAirflow, runs: dict[str, FlowRun], flows: Path, name: str, shape: str, conf: dict[str, object]
) -> None:
    run = runs[name]
    run.wait(timeout=900)
    given = [f"--{key}={value}" for key, value in conf.items()]
    assert celery.artifacts(run) == local_artifacts(flows / f"{shape}.py", run.flow, *given)
    hosts = {host for _, host in celery.places(run).values()}
    assert hosts == ({"one"} if shape == "single_step" else {"one", "two"})
