"""Texts of users come to a flow byte for byte, whatever Argo would make of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.argo_api import ArgoApi

from metaflow_adapters.argo import ArgoDeployment, compile_flow, embed_flow
from metaflow_adapters.argo.cluster.client import WORKFLOWS
from metaflow_adapters.argo.objects.events import EventSettings
from metaflow_adapters.argo.objects.values import SEAL, sealed, unsealed
from metaflow_adapters.argo.runs.runs import ArgoRuns, Caller
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task import placed_parameters, task_place
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.graph.model import EventTrigger, Parameter, ParameterType

Deploy = Callable[..., tuple[ArgoDeployment, ArgoRuns]]
EVENTS = EventSettings(event="event", source="source", account="account")

HANGS = "grün {{=1+}} {{ workflow.name }}"
"""Argo's controller would leave a run with it pending for ever."""


def with_default(manifest: Manifest, default: str) -> Manifest:
    parameter = Parameter(
        name="note", variable="note", type=ParameterType.STR, default=default, help="as {{=in}} Jinja"
    )
    graph = msgspec.structs.replace(
        manifest.graph,
        parameters=(parameter,),
        triggers=(EventTrigger(event="e", parameters=(("note", "text"),)),),
    )
    return msgspec.structs.replace(manifest, graph=graph)


def seen(parameters: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the start step is given, of parameters that Argo has encoded as a whole."""
    text = base64.b64encode(json.dumps(parameters).encode()).decode()
    monkeypatch.setenv(task_place.PARAMETERS_VARIABLE, text)
    return {one["name"]: one.get("value") for one in placed_parameters.given_parameters({})}


@given(st.text(st.sampled_from("{}=ab\n\"\\ü"), max_size=12) | st.text(max_size=9).map(lambda text: SEAL + text))
def test_argo_sees_no_reference_in_a_value_which_comes_back_byte_for_byte(text: str) -> None:
    assert "{{" not in sealed(text)
    assert unsealed(sealed(text)) == text
    assert placed_parameters.unsealed(sealed(text)) == text


def test_a_value_without_references_stays_readable() -> None:
    for text in ("plain", "", '{"a": {"b": 1}}', "}}", "{ {"):
        assert sealed(text) == text


def test_a_default_and_a_description_with_references_start_runs(
    on_s3: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    template, sensor = compile_flow(with_default(on_s3("linear"), HANGS), events=EVENTS).to_dicts()
    parameters = template["spec"]["arguments"]["parameters"]
    assert "{{" not in json.dumps(parameters)
    assert seen(parameters, monkeypatch)["note"] == HANGS
    trigger = sensor["spec"]["triggers"][0]["template"]["k8s"]
    arguments = trigger["source"]["resource"]["spec"]["arguments"]["parameters"]
    assert seen(arguments, monkeypatch)["note"] == HANGS
    (mapped, _) = trigger["parameters"]
    assert unsealed(mapped["src"]["value"]) == HANGS


def test_a_default_with_references_is_that_of_an_embedded_flow(
    on_s3: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded = embed_flow(with_default(on_s3("linear"), HANGS), "one")
    (note,) = [one for one in embedded.templates[0].inputs if one.name == "note"]
    assert "{{" not in note.value + note.description
    assert seen([{"name": "note", "value": note.value}], monkeypatch)["note"] == HANGS


def test_values_of_a_started_and_of_a_resumed_run_hold_no_references(deploy: Deploy, api: ArgoApi) -> None:
    _, runs = deploy("decorated/nightly")
    first = runs.start({"size": HANGS})
    workflow = api.get(WORKFLOWS, first.removeprefix("argo-"))
    assert workflow is not None
    assert workflow["spec"]["arguments"]["parameters"] == [{"name": "size", "value": sealed(HANGS)}]
    assert "{{" not in json.dumps(workflow["spec"]["arguments"])
    workflow["status"] = {"phase": "Failed"}
    names = {"owner": "ann", "flow_name": "NightlyFlow", "project_name": "market", "branch_name": "prod"}
    workflow["metadata"]["annotations"] = {f"metaflow/{name}": value for name, value in names.items()}
    caller = Caller(flow="NightlyFlow", user="ann", project="market", branch="prod")
    second = runs.find(runs.resume(first, caller, ()))
    assert second["spec"]["arguments"]["parameters"][0] == {"name": "size", "value": sealed(HANGS)}
