"""Live Hera objects and Argo's own server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hera.workflows import WorkflowsService
from tests.support.argo import Argo
from tests.support.argo_server import argo_server
from tests.support.kubernetes import NAMESPACE

from metaflow_adapters.argo import compile_flow

pytestmark = [pytest.mark.scheduler, pytest.mark.kubernetes, pytest.mark.extended]


@pytest.fixture(scope="module")
def service(argo: Argo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkflowsService]:
    with argo_server(argo.cluster, tmp_path_factory.mktemp("argo") / "server.log") as url:
        yield WorkflowsService(host=url, token="none", namespace=NAMESPACE)
    argo.clean()


def test_objects_are_applied_to_a_server_and_differ_by_what_was_changed(
    argo: Argo, service: WorkflowsService, flows: Path
) -> None:
    flow = compile_flow(flows / "argo/nightly.py", name="applied", namespace=NAMESPACE, environment=argo.environment)
    assert flow.cron is not None
    new = flow.diff(service)
    assert "+++ WorkflowTemplate applied here" in new
    assert "+++ CronWorkflow applied here" in new
    assert not [line for line in new.splitlines() if line.startswith("-") and not line.startswith("---")]
    flow.cron.cron_suspend = True
    flow.apply(service)
    assert flow.diff(service) == ""
    flow.template.active_deadline_seconds = 600
    flow.cron.timezone = "Asia/Tokyo"
    changed = [line for line in flow.diff(service).splitlines() if line[0] in "+-" and line[:3] not in ("+++", "---")]
    assert sorted(changed) == ["+  activeDeadlineSeconds: 600", "+  timezone: Asia/Tokyo", "-  timezone: Europe/Berlin"]
    flow.apply(service)
    assert flow.diff(service) == ""
    run = argo.start("applied", "NightlyFlow")
    run.wait()
    assert run.artifacts()["start"][((), ())]["double"] == 4
