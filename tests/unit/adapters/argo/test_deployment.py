"""The live objects of a flow: as a file, applied to a server, and compared with what is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import yaml
from hera.exceptions import NotFound

from metaflow_adapters.argo import ArgoDeployment, compile_flow
from metaflow_adapters.argo.objects.events import EventSettings
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.graph.model import EventTrigger, Schedule

EVENTS = EventSettings(event="event", source="source", account="account", namespace="events")


class Server:
    """Hera's service, as far as it is used."""

    def __init__(self) -> None:
        self.there: dict[str, Any] = {}

    def keep(self, live: Any) -> None:
        self.there[live.kind] = live.to_dict()

    def _get(self, kind: str, name: str, namespace: str) -> Any:
        found = self.there.get(kind)
        if found is None or (found["metadata"]["name"], found["metadata"]["namespace"]) != (name, namespace):
            raise NotFound("absent")
        return SimpleNamespace(json=lambda **_: json.dumps(found))

    def update_cron_workflow(self, name: str, request: Any, namespace: str) -> None:
        self.there["CronWorkflow"] = json.loads(request.cron_workflow.json(exclude_none=True, by_alias=True))
        assert (name, namespace) == tuple(self.there["CronWorkflow"]["metadata"][key] for key in ("name", "namespace"))

    def get_workflow_template(self, name: str, namespace: str) -> Any:
        return self._get("WorkflowTemplate", name, namespace)

    def get_cron_workflow(self, name: str, namespace: str) -> Any:
        return self._get("CronWorkflow", name, namespace)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    for kind in ("WorkflowTemplate", "CronWorkflow"):
        monkeypatch.setattr(f"hera.workflows.{kind}.update", lambda live: live.workflows_service.keep(live))
    return made


@pytest.fixture
def deployment(on_s3: Callable[..., Manifest]) -> Callable[..., ArgoDeployment]:
    """Compiles a flow whose graph has what the test says."""

    def make(**graph: Any) -> ArgoDeployment:
        manifest = on_s3("linear")
        changed = msgspec.structs.replace(manifest, graph=msgspec.structs.replace(manifest.graph, **graph))
        return compile_flow(changed, namespace="flows", events=EVENTS)

    return make


SCHEDULED = {"schedule": Schedule(cron="0 9 * * *")}


def test_the_file_holds_all_objects_in_their_order(deployment: Callable[..., ArgoDeployment], tmp_path: Path) -> None:
    made = deployment(**SCHEDULED, triggers=(EventTrigger(event="e"),))
    file = made.to_file(tmp_path / "new" / "folder")
    assert file == tmp_path / "new/folder" / f"{made.template.name}.yaml"
    found = list(yaml.safe_load_all(file.read_text()))
    assert [one["kind"] for one in found] == ["WorkflowTemplate", "CronWorkflow", "Sensor"]
    assert found == made.to_dicts()
    assert [one["kind"] for one in deployment().to_dicts()] == ["WorkflowTemplate"]


def test_what_is_applied_does_not_differ_afterwards(deployment: Callable[..., ArgoDeployment], server: Any) -> None:
    made = deployment(**SCHEDULED)
    missing = made.diff(server)
    assert "WorkflowTemplate" in missing
    assert "CronWorkflow" in missing
    made.apply(server)
    assert set(server.there) == {"WorkflowTemplate", "CronWorkflow"}
    assert made.diff(server) == ""
    server.there["CronWorkflow"]["spec"]["timezone"] = "Asia/Tokyo"
    changed = made.diff(server)
    assert "Asia/Tokyo" in changed
    assert "WorkflowTemplate" not in changed


def test_a_suspended_schedule_stays_so_and_a_removed_one_is_suspended(
    deployment: Callable[..., ArgoDeployment], server: Any
) -> None:
    deployment(**SCHEDULED).apply(server)
    deployment().apply(server)
    assert server.there["CronWorkflow"]["spec"]["suspend"] is True
    deployment(**SCHEDULED).apply(server)
    assert "suspend" not in server.there["CronWorkflow"]["spec"]
    server.there["CronWorkflow"]["spec"]["suspend"] = True
    again = deployment(**SCHEDULED)
    again.apply(server)
    assert server.there["CronWorkflow"]["spec"]["suspend"] is True
    assert again.diff(server) == ""


def test_a_flow_with_a_sensor_is_not_applied_by_halves(deployment: Callable[..., ArgoDeployment], server: Any) -> None:
    made = deployment(triggers=(EventTrigger(event="e"),))
    with pytest.raises(ValueError, match=r"has a sensor, .* Apply `to_yaml\(\)` with kubectl"):
        made.apply(server)
    assert server.there == {}
