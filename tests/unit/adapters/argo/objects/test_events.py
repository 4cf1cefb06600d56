"""Triggers as a sensor of Argo Events, and hooks after a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from metaflow_adapters.argo import compile_flow
from metaflow_adapters.argo.objects.events import EventSettings, event_name
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task.placed_parameters import received_events
from metaflow_orchestration.documents.manifest import Manifest, Notifications
from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.model import EventTrigger, ExitHook, Parameter, ParameterType, Schedule

EVENTS = EventSettings(event="event", source="source", account="account")
ALPHA = Parameter(name="alpha", variable="alpha", type=ParameterType.INT, default="3", required=True)


def changed(manifest: Manifest, **graph: Any) -> Manifest:
    return msgspec.structs.replace(manifest, graph=msgspec.structs.replace(manifest.graph, **graph))


def triggered(manifest: Manifest) -> Manifest:
    return changed(
        manifest,
        parameters=(ALPHA,),
        triggers=(
            EventTrigger(event="data.ready", parameters=(("alpha", "size"),), all_needed=True),
            EventTrigger(event="metaflow.Other.end", of_run=True),
        ),
        trigger_reset=Schedule(cron="0 0 * * *", timezone="Europe/Berlin"),
    )


def test_a_sensor_waits_for_all_events_maps_payloads_and_forgets_by_time(on_s3: Callable[..., Manifest]) -> None:
    template, sensor = compile_flow(triggered(on_s3("linear")), namespace="flows", events=EVENTS).to_dicts()
    assert template["metadata"]["annotations"]["metaflow/sensor_name"] == sensor["metadata"]["name"] == "linear"
    assert (sensor["apiVersion"], sensor["kind"]) == ("argoproj.io/v1alpha1", "Sensor")
    first, second = sensor["spec"]["dependencies"]
    assert first["name"] == event_name("data.ready")
    assert [one["expr"] for one in first["filters"]["exprs"]] == ["name == 'data.ready'", "true == true"]
    assert [one["expr"] for one in second["filters"]["exprs"]] == ["name == 'metaflow.Other.end'", "field == 'True'"]
    template = sensor["spec"]["triggers"][0]["template"]
    assert template["conditionsReset"] == [{"byTime": {"cron": "0 0 * * *", "timezone": "Europe/Berlin"}}]
    mapped, *payloads = template["k8s"]["parameters"]
    assert mapped["dest"] == "spec.arguments.parameters.#(name=alpha).value"
    assert mapped["src"]["value"] == "3"
    assert all("toRawJson $.Input.body.payload" in one["src"]["dataTemplate"] for one in payloads)
    assert [one["src"]["value"] for one in payloads] == ["null", "null"]
    resource = template["k8s"]["source"]["resource"]
    assert resource["spec"]["workflowTemplateRef"] == {"name": "linear"}


def test_a_cluster_without_events_is_told_before_anything_is_made(on_s3: Callable[..., Manifest]) -> None:
    with pytest.raises(InvalidOptionError, match="METAFLOW_ARGO_EVENTS_EVENT_SOURCE is not set"):
        compile_flow(triggered(on_s3("linear")), events=EventSettings(event="event"))


def test_a_step_learns_which_events_have_come() -> None:
    triggers = {event_name("data.ready"): "event", event_name("b"): "event", event_name("metaflow.Other.end"): "run"}
    of_run = {"name": "metaflow.Other.end", "id": "Other/1"}
    given = [
        {"name": "alpha", "value": "3"},
        {"name": event_name("data.ready"), "value": json.dumps({"name": "data.ready", "id": "1", "timestamp": 5})},
        {"name": event_name("b"), "value": "null"},
        {"name": event_name("metaflow.Other.end"), "value": json.dumps(of_run)},
    ]
    assert received_events(triggers, given) == [
        {"timestamp": 5, "id": "1", "name": "data.ready", "type": "event"},
        {"timestamp": None, "id": "Other/1", "name": "metaflow.Other.end", "type": "run"},
    ]


def test_hooks_and_notifications_run_at_the_exit_and_keep_their_secrets_out(on_s3: Callable[..., Manifest]) -> None:
    manifest = changed(on_s3("linear"), exit_hooks=(ExitHook(function="bye", on_success=True),))
    told = Notifications(on_error=True, slack="linear-notify")
    deployment = msgspec.structs.replace(manifest.deployment, notifications=told)
    spec = compile_flow(msgspec.structs.replace(manifest, deployment=deployment)).to_dicts()[0]["spec"]
    templates = {one["name"]: one for one in spec["templates"]}
    assert spec["onExit"] == "exit"
    (hooks,) = templates["exit"]["steps"]
    assert [one["when"] for one in hooks] == [
        "{{workflow.status}} == Succeeded",
        "{{workflow.status}} == Failed || {{workflow.status}} == Error",
    ]
    secret = templates["notify-on-error"]["container"]["env"][1]
    assert secret["valueFrom"] == {"secretKeyRef": {"name": "linear-notify", "key": "SLACK", "optional": True}}
