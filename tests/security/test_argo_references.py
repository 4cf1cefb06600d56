"""Promise: who submits a workflow, or writes what a container tells, adds no field to an object of Kubernetes."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import yaml
from hera.workflows import DAG, Workflow
from tests.support.recorded import DECORATED, SHAPES

from metaflow_adapters.argo import compile_flow, flow_task
from metaflow_adapters.argo.objects.events import EventSettings
from metaflow_adapters.argo.objects.references import encoded, run_prefix, whole_number
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task.task_place import Place
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import InvalidOptionError, UnsupportedFeatureError
from metaflow_orchestration.graph.model import EventTrigger, Parameter, ParameterType

EVENTS = EventSettings(event="event", source="source", account="account")

# Argo and Kubernetes choose them, of letters, digits and dashes.
SYSTEM = {
    "{{workflow.name}}",
    "{{workflow.namespace}}",
    "{{workflow.status}}",
    "{{retries}}",
    "{{item}}",
}
# The workflow's name, as it may begin the name of an object that Kubernetes makes.
GANG_NAME = '{{=sprig.trimSuffix("-", sprig.trunc(40, sprig.replace(".", "-", workflow.name)))}}'
SYSTEM.add(GANG_NAME)
ENCODED = re.compile(
    r"\{\{=sprig\.b64enc\([^{}]*\)\}\}"
    r'|\{\{=inputs\.parameters\.nodes matches "\^\[0-9\]\+\$" \? inputs\.parameters\.nodes : "no-number"\}\}'
)
REFERENCE = re.compile(r"\{\{.*?\}\}", re.DOTALL)
HOSTILE = [
    "x\n          hostPID: true",
    "x'\n  y: z",
    'x"',
    "{{workflow.serviceAccountName}}",
    "{{=sprig.env('HOME')}}",
    "3\nprivileged: true",
    "x: [",
    "$(HOME)",
    "# x",
    "'",
    "| >",
    "\0",
    "ü",
]


def strings(document: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield path and text of all texts of a document."""
    if isinstance(document, str):
        yield path, document
    elif isinstance(document, dict):
        for key, value in document.items():
            yield from strings(value, f"{path}.{key}")
    elif isinstance(document, list):
        for value in document:
            yield from strings(value, f"{path}[]")


def raw_references(document: Any) -> list[tuple[str, str]]:
    """Return the references that put in what somebody has chosen where it is more than data."""
    found = []
    for path, text in strings(document):
        in_manifest = path.endswith((".command[]", ".args[]", ".script.source")) or ".metadata" in path
        for one in REFERENCE.findall(text):
            if one in SYSTEM or ENCODED.fullmatch(one):
                continue
            if in_manifest or ".resource." in path or "workflow.parameters" in one:
                found.append((path, one))
    return found


def compiled_objects(manifest: Manifest, gang: str) -> list[dict[str, Any]]:
    return compile_flow(manifest, namespace="flows", gang=gang, image="image:1", events=EVENTS).to_dicts()


FLOWS = [*SHAPES, *(one for one in DECORATED if one != "decorated/jobs")]


@pytest.mark.parametrize("gang", ["job", "jobset"])
@pytest.mark.parametrize("flow", FLOWS)
def test_no_template_takes_a_chosen_value_into_a_manifest_or_a_command_as_it_is(
    on_s3: Callable[..., Manifest], flow: str, gang: str
) -> None:
    # One of them has an annotation with a reference, which is refused: see below.
    plain = msgspec.json.encode(on_s3(flow)).replace(b"{{note}}", b"note")
    documents = compiled_objects(msgspec.json.decode(plain, type=Manifest), gang)
    assert raw_references(documents) == []
    texts = [text for _, text in strings(documents)]
    assert any("{{=sprig.b64enc(workflow.parameters" in text for text in texts)


def test_the_walk_sees_what_was_raw_before() -> None:
    before = {
        "resource": {
            "manifest": "value: '{{workflow.parameters.metaflow-origin}}'\nplace: '{{inputs.parameters.place}}'",
            "successCondition": "status.succeeded == {{inputs.parameters.nodes}}",
        },
        "container": {"env": [{"value": "{{workflow.parameters.alpha}}"}], "args": ["{{inputs.parameters.x}}"]},
    }
    assert len(raw_references({"spec": {"templates": [before]}})) == 5


def filled(text: str, values: dict[str, str]) -> str:
    """Put values into a template, as Argo does: by text, encoded where the expression says so."""

    def one(found: re.Match[str]) -> str:
        expression = found[0].removeprefix("{{").removesuffix("}}")
        if expression.startswith("=sprig.b64enc("):
            name = expression.removeprefix("=sprig.b64enc(").removesuffix(")").replace('["', ".").replace('"]', "")
            return base64.b64encode(values[name].encode()).decode()
        if " matches " in expression:
            name = expression.removeprefix("=").partition(" ")[0]
            return values[name] if re.search("^[0-9]+$(?!\n)", values[name]) else "no-number"
        if found[0] == GANG_NAME:
            return values["workflow.name"].replace(".", "-")[:40].removesuffix("-")
        return values[expression]

    return REFERENCE.sub(one, text)


@pytest.mark.parametrize("gang", ["job", "jobset"])
@pytest.mark.parametrize("hostile", HOSTILE, ids=repr)
def test_the_manifest_of_a_gang_has_the_same_fields_whatever_is_submitted(
    on_s3: Callable[..., Manifest], hostile: str, gang: str
) -> None:
    (template, *_) = compiled_objects(on_s3("parallel"), gang)
    gangs = [one["resource"]["manifest"] for one in template["spec"]["templates"] if "resource" in one]
    assert len(gangs) == 2
    for text in gangs:
        names = {"workflow.name": "w-1", "workflow.namespace": "flows", "retries": "0", "inputs.parameters.nodes": "3"}
        good = {**names, "workflow.parameters.metaflow-origin": "argo-1:end", "inputs.parameters.place": "3-0"}
        bad = {**names, "workflow.parameters.metaflow-origin": hostile, "inputs.parameters.place": hostile}
        expected, found = yaml.safe_load(filled(text, good)), yaml.safe_load(filled(text, bad))
        assert [path for path, _ in strings(found)] == [path for path, _ in strings(expected)]
        places = {text for path, text in strings(found) if text == base64.b64encode(hostile.encode()).decode()}
        assert len(places) == 1
        # What a container wrote for a number.
        numbers = yaml.safe_load(filled(text, {**good, "inputs.parameters.nodes": "3\nhostPID: true"}))
        assert "no-number" in json.dumps(numbers)
        assert "hostPID" not in json.dumps(numbers)


def test_the_origin_and_the_place_are_decoded_in_the_task() -> None:
    def base64_of(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    run = {"METAFLOW_ORCHESTRATOR_RUN": "argo-w"}
    found = Place.read({**run, "METAFLOW_ORCHESTRATOR_PLACE_BASE64": base64_of("one@3-0")})
    assert (found.run_id, found.path) == ("argo-w-one", (3, 0))
    found = Place.read({**run, "METAFLOW_ORCHESTRATOR_PLACE_BASE64": base64_of(f"={base64_of('a-7')}@")})
    assert (found.run_id, found.path) == ("argo-w-a-7", ())
    for hostile in HOSTILE:
        with pytest.raises(SystemExit, match="the run is"):
            Place.read({**run, "METAFLOW_ORCHESTRATOR_PLACE_BASE64": base64_of(f"={base64_of(hostile)}@3")})


@pytest.mark.parametrize(
    ("run", "prefix"),
    [
        ("nightly", "nightly"),
        ("{{item}}", "={{=sprig.b64enc(string(item))}}"),
        ("{{workflow.name}}", "={{=sprig.b64enc(string(workflow.name))}}"),
        ("a-{{item.my-key}}-b", '={{=sprig.b64enc("a-" + string(item["my-key"]) + "-b")}}'),
        ("{{=asInt(item) + 1}}", "={{=sprig.b64enc(string((asInt(item) + 1)))}}"),
        ("{{tasks.a-b.outputs.result}}", '={{=sprig.b64enc(string(tasks["a-b"].outputs.result))}}'),
    ],
)
def test_the_name_of_a_run_that_a_user_gives_is_encoded_where_it_holds_references(run: str, prefix: str) -> None:
    assert run_prefix(run, "Flow") == prefix


@pytest.mark.parametrize(
    "run", ["a b", "a/b", "../x", "a@b", "x\n", "{{item}}/x", "{{a b}}", "{{item", "{{}}", "'{{item}}'"]
)
def test_the_name_of_a_run_that_can_be_none_is_refused_when_the_workflow_is_made(run: str) -> None:
    with pytest.raises(InvalidOptionError, match="flow Flow: `run` is"):
        run_prefix(run, "Flow")


def test_a_flow_in_a_users_workflow_takes_no_chosen_value_as_it_is(on_s3: Callable[..., Manifest]) -> None:
    with Workflow(generate_name="mine-", entrypoint="main") as workflow:
        with DAG(name="main"):
            flow_task(on_s3("parallel"), "one", run="{{item}}", with_items=["a", "b"])
    assert raw_references(workflow.to_dict()) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"image": "image:{{workflow.parameters.tag}}"},
        {"labels": {"team": "{{x}}"}},
        {"annotations": {"{{x}}": "y"}},
        {"node_selector": {"a": "{{x}}"}},
        {"service_account": "{{workflow.parameters.account}}"},
        {"secrets": ["{{x}}"]},
        {"tolerations": [{"key": "{{x}}"}]},
    ],
    ids=lambda one: next(iter(one)),
)
def test_a_reference_in_an_attribute_of_a_step_is_refused_by_name(
    on_s3: Callable[..., Manifest], changed: dict[str, Any]
) -> None:
    manifest = on_s3("decorated/pods")
    step = next(one for one in manifest.graph.steps if any(deco.name == "kubernetes" for deco in one.decorators))
    decorators = tuple(
        msgspec.structs.replace(one, attributes={**one.attributes, **changed}) if one.name == "kubernetes" else one
        for one in step.decorators
    )
    steps = tuple(
        msgspec.structs.replace(one, decorators=decorators) if one.name == step.name else one
        for one in manifest.graph.steps
    )
    graph = msgspec.structs.replace(manifest.graph, steps=steps)
    with pytest.raises(UnsupportedFeatureError, match=f"step {step.name}: @kubernetes holds"):
        compile_flow(msgspec.structs.replace(manifest, graph=graph), events=EVENTS)


def test_names_of_events_and_fields_reach_a_sensor_as_text(on_s3: Callable[..., Manifest]) -> None:
    manifest = on_s3("linear")
    event, field = 'it\'s "x" || true', 'a.b"}}{{ .Input }}'
    parameter = Parameter(name="alpha", variable="alpha", type=ParameterType.STR, default="x", required=True)
    trigger = EventTrigger(event=event, parameters=(("alpha", field),))
    graph = msgspec.structs.replace(manifest.graph, triggers=(trigger,), parameters=(parameter,))
    (_, sensor) = compile_flow(msgspec.structs.replace(manifest, graph=graph), events=EVENTS).to_dicts()
    (dependency,) = sensor["spec"]["dependencies"]
    by_name, by_field = dependency["filters"]["exprs"]
    assert by_name["expr"] == f"name == {json.dumps(event)}"
    assert by_field["fields"][0]["path"] == r"body.payload.a\.b\"\}\}\{\{ \.Input \}\}"
    assert re.fullmatch(r"[A-Za-z0-9_]+", dependency["name"])
    (mapped, _) = sensor["spec"]["triggers"][0]["template"]["k8s"]["parameters"]
    # In a Go template the name is one quoted string.
    assert mapped["src"]["dataTemplate"].count(json.dumps(field)) == 4


def test_the_expressions_are_those_that_the_walk_takes() -> None:
    assert ENCODED.fullmatch(encoded("inputs.parameters.place"))
    assert ENCODED.fullmatch(whole_number("inputs.parameters.nodes"))
    assert ENCODED.fullmatch("{{inputs.parameters.nodes}}") is None
