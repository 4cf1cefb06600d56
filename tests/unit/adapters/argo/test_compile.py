"""The objects of each shape (golden files; renew with --update-golden)."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from metaflow_adapters.argo import ArgoDeployment, compile_flow
from metaflow_adapters.argo.objects.events import EventSettings
from metaflow_orchestration.documents.manifest import Manifest, Notifications
from metaflow_orchestration.exceptions import InvalidOptionError, UnsupportedFeatureError
from metaflow_orchestration.graph.model import Schedule

SCHEMAS = Path(os.environ.get("TEST_SECOND_OPINIONS_HOME", Path.home() / ".cache/test-second-opinions"))
GOLDEN = Path(__file__).parents[3] / "golden"
SHAPES = [
    "linear", "single_step", "custom_names", "static_split", "foreach", "nested_foreach", "split_in_foreach",
    "foreach_in_split", "switch", "switch_in_foreach", "switch_in_split", "recursion", "parallel",
]  # fmt: skip
EVENTS = EventSettings(event="event", source="source", account="account", namespace="events", bus="bus")


def readable(document: Any) -> Any:
    """Decode the documents of containers, whose bytes depend on the version of zlib."""
    if isinstance(document, dict):
        return {key: readable(value) for key, value in document.items()}
    if isinstance(document, list):
        return [readable(one) for one in document]
    if isinstance(document, str) and document.startswith("eN"):
        return json.loads(zlib.decompress(base64.b64decode(document)))
    if isinstance(document, str) and document.startswith("import base64"):
        return "<the program of flow/container.py>"
    if isinstance(document, str) and document.startswith("apiVersion: "):
        # What a resource template makes; a reference where a number is to stand is no YAML yet.
        return readable(yaml.load(re.sub(r"(?m): ({{.*}})$", r": '\1'", document), yaml.CSafeLoader))
    return document


def templates_of(deployment: ArgoDeployment) -> dict[str, Any]:
    (template, *_) = deployment.to_dicts()
    return {one["name"]: one for one in template["spec"]["templates"]}


def compared(deployment: ArgoDeployment, file: Path, request: pytest.FixtureRequest) -> None:
    """Compare the objects of a flow with a golden file; with `--update-golden`, write it first."""
    made = [readable(one) for one in deployment.to_dicts()]
    if request.config.getoption("--update-golden"):
        file.write_text(yaml.safe_dump_all(made, sort_keys=False, width=120))
    assert made == list(yaml.load_all(file.read_text(), yaml.CSafeLoader))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_objects_are_those_of_the_last_release(
    shape: str, on_s3: Callable[..., Manifest], request: pytest.FixtureRequest
) -> None:
    deployment = compile_flow(on_s3(shape), namespace="flows", gang="job")
    compared(deployment, GOLDEN / shape / "argo.yaml", request)


NOTIFIED = Notifications(
    on_error=True,
    on_success=True,
    slack="nightly-notify",
    pager_duty="nightly-notify",
    incident_io="nightly-notify",
    incident_io_source="source-1",
    incident_io_metadata=(("team", "ml"),),
)
EVERY_OPTION = {
    "priority": 3,
    "title": "a *title*",
    "description": "what it does",
    "ttl_seconds": 86400,
    "pod_gc": "OnPodSuccess",
    "concurrency_policy": "Forbid",
    "successful_runs_kept": 2,
    "failed_runs_kept": 4,
}
DECORATED: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("decorated/careful", "argo.yaml", {}, {}),
    ("decorated/careful", "argo-job.yaml", {}, {"gang": "job"}),
    ("decorated/pods", "argo.yaml", {}, {}),
    ("decorated/pods", "argo-job.yaml", {}, {"gang": "job", "image": "other:3"}),
    ("decorated/nightly", "argo.yaml", {"name": "market.prod.nightlyflow", "notifications": NOTIFIED}, EVERY_OPTION),
    ("decorated/nightly", "argo-quiet.yaml", {"notifications": NOTIFIED}, {"report_failures": False}),
    ("decorated/triggered", "argo.yaml", {"name": "market.test.testing.triggeredflow"}, {}),
    ("decorated/on_finish", "argo.yaml", {"name": "market.test.testing.onfinishflow"}, {}),
]
"""Flow, golden file, fields of the deployment, options."""


@pytest.mark.parametrize(("name", "file", "deployment", "options"), DECORATED)
def test_the_objects_of_flows_with_decorators_are_those_of_the_last_release(
    name: str,
    file: str,
    deployment: dict[str, Any],
    options: dict[str, Any],
    on_s3: Callable[..., Manifest],
    request: pytest.FixtureRequest,
) -> None:
    made = compile_flow(on_s3(name, **deployment), namespace="flows", events=EVENTS, **options)
    compared(made, GOLDEN / name / file, request)


def test_a_step_for_aws_batch_is_refused(on_s3: Callable[..., Manifest]) -> None:
    with pytest.raises(UnsupportedFeatureError, match="step start: it is marked for AWS Batch"):
        compile_flow(on_s3("decorated/jobs"))


KNOWN_FALSE_ALARMS = (
    # Argo names the container of a template itself.
    re.compile(r"/container must have required property name$"),
    # Its steps are lists of lists; the schema loses the inner one.
    re.compile(r"/steps/\d+ must be object$"),
)


def faults(documents: list[dict[str, Any]]) -> list[str]:
    """What the schemas of npm's @kubernetes-models/argo-workflows (Argo 4) find wrong."""
    script = Path(__file__).parents[3] / "support/argo_schema.mjs"
    assert SCHEMAS.exists(), f"{SCHEMAS} is missing: run scripts/second_opinions.sh"
    found = subprocess.run(
        ["node", str(script), str(SCHEMAS)], input=json.dumps(documents), capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    return [line for line in found.stdout.splitlines() if not any(one.search(line) for one in KNOWN_FALSE_ALARMS)]


@pytest.mark.subprocess
@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(name, marks=[] if name in ("switch_in_foreach", "parallel") else pytest.mark.extended)
        for name in SHAPES
    ],
)
def test_argos_own_schemas_take_the_objects(shape: str, on_s3: Callable[..., Manifest]) -> None:
    manifest = on_s3(shape)
    nightly = msgspec.structs.replace(manifest.graph, schedule=Schedule(cron="0 3 * * *", timezone="Asia/Tokyo"))
    deployment = compile_flow(msgspec.structs.replace(manifest, graph=nightly), namespace="flows", gang="job")
    assert faults(deployment.to_dicts()) == []
    (template, _) = deployment.to_dicts()
    template["spec"]["parallelism"] = "many"
    assert faults([template]) == ["data/spec/parallelism must be integer"]


@pytest.mark.parametrize("shape", SHAPES)
def test_an_output_is_referred_to_only_after_its_task_has_succeeded(shape: str, on_s3: Callable[..., Manifest]) -> None:
    """What Argo 3.7.11 and later wait for without end is a reference to the output of a skipped task."""
    for template in templates_of(compile_flow(on_s3(shape), gang="job")).values():
        for task in template.get("dag", {}).get("tasks", []):
            text = json.dumps(task)
            for other in template["dag"]["tasks"]:
                if f"{{{{tasks.{other['name']}.outputs" in text:
                    assert f"{other['name']}.Succeeded" in task["depends"].split(" && ")
                    assert "||" not in task["depends"]


def test_two_compilations_give_the_same_bytes(on_s3: Callable[..., Manifest]) -> None:
    texts = {compile_flow(on_s3("switch_in_foreach"), namespace="flows").to_yaml() for _ in range(2)}
    assert len(texts) == 1
    assert next(iter(texts)).startswith("apiVersion: argoproj.io/v1alpha1\nkind: WorkflowTemplate\n")


def test_the_command_stands_once(on_s3: Callable[..., Manifest]) -> None:
    assert compile_flow(on_s3("static_split")).to_yaml().count("import base64, importlib.util") == 1


def test_the_objects_can_be_changed_before_they_are_applied(on_s3: Callable[..., Manifest], tmp_path: Path) -> None:
    deployment = compile_flow(on_s3("linear"))
    deployment.template.labels["team"] = "ml"
    next(one for one in deployment.template.templates if one.name == "start").image = "other:2"
    text = deployment.to_file(tmp_path / "deep").read_text()
    assert "team: ml" in text
    assert "image: other:2" in text


@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        ({"image": None}, "step start: it has no image"),
        ({"colour": "red"}, "step start: @kubernetes has the attribute 'colour'"),
    ],
)
def test_what_argo_cannot_honour_is_refused_with_the_step(
    on_s3: Callable[..., Manifest], attributes: dict[str, Any], told: str
) -> None:
    manifest = on_s3("linear")
    manifest.remote["compute_defaults"] = {
        "kubernetes": {**manifest.remote["compute_defaults"]["kubernetes"], **attributes}
    }
    with pytest.raises(UnsupportedFeatureError, match=told.replace("(", r"\(")):
        compile_flow(manifest)


def test_the_namespace_of_the_deployment_is_stronger_than_the_configured_one(on_s3: Callable[..., Manifest]) -> None:
    manifest = on_s3("linear")
    configured = manifest.remote["compute_defaults"]["kubernetes"]
    manifest.remote["compute_defaults"] = {"kubernetes": {**configured, "namespace": "default"}}
    template, *_ = compile_flow(manifest, namespace="flows").to_dicts()
    assert template["metadata"]["namespace"] == "flows"


def test_a_heartbeat_runs_beside_the_steps_and_needs_a_service(on_s3: Callable[..., Manifest]) -> None:
    manifest = on_s3("linear")
    with pytest.raises(InvalidOptionError, match="uses none"):
        compile_flow(manifest, heartbeat=True)
    replace = msgspec.structs.replace
    served = replace(manifest, command=replace(manifest.command, metadata="service"))
    found = templates_of(compile_flow(served, heartbeat=True))
    assert found["heartbeat-daemon"]["daemon"] is True
    (beat,) = [one for one in found["LinearFlow"]["dag"]["tasks"] if one["name"] == "heartbeat-daemon"]
    assert set(beat) == {"name", "template"}
    assert "heartbeat-daemon" not in templates_of(compile_flow(served))


def test_an_unknown_kind_of_gang_is_refused(on_s3: Callable[..., Manifest]) -> None:
    with pytest.raises(InvalidOptionError, match="`gang` is 'mpi'"):
        compile_flow(on_s3("parallel"), gang="mpi")
