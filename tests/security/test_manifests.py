"""Promise: whatever stands in a folder of manifests, each file gives a DAG or one error and hides no other."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from airflow.serialization.serialized_objects import DagSerialization
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.recorded import DECORATED, SHAPES, read_recorded

from airflow_provider_metaflow import load_flows
from airflow_provider_metaflow.dag.loader import BrokenFlowDag
from airflow_provider_metaflow.plan.dag import plan_dag
from metaflow_orchestration.documents.manifest import Manifest, decode_manifest, encode_body, encode_manifest
from metaflow_orchestration.exceptions import ManifestError, MetaflowProviderError

Document = dict[str, Any]


def manifest_of(flow: str) -> Manifest:
    found = read_recorded(flow)
    assert found is not None
    return found


def forged(body: Any) -> bytes:
    """A manifest with a digest that fits, as somebody makes it who can write into the folder."""
    try:
        digest = hashlib.sha256(encode_body(msgspec.convert(body, Manifest))).hexdigest()
    except (msgspec.ValidationError, RecursionError):
        digest = "0"
    return json.dumps({"schema_version": 1, "digest": digest, "manifest": body}).encode()


def body_of(flow: str) -> Document:
    found: Document = json.loads(encode_body(manifest_of(flow)))
    return found


@pytest.mark.parametrize("flow", [*SHAPES, *DECORATED])
def test_a_manifest_of_every_shape_is_taken(flow: str) -> None:
    manifest = manifest_of(flow)
    assert decode_manifest(encode_manifest(manifest), "m") == manifest


def changed(flow: str, change: Callable[[Document], object]) -> bytes:
    body = body_of(flow)
    change(body)
    return forged(body)


def step(body: Document, name: str) -> Document:
    found: Document = next(one for one in body["graph"]["steps"] if one["name"] == name)
    return found


CASES: dict[str, Callable[[Document], object]] = {
    "an unknown parent": lambda b: step(b, "middle").update(parents=["nowhere"]),
    "a parent that does not lead there": lambda b: step(b, "end").update(parents=["start"]),
    "an unknown next step": lambda b: step(b, "middle").update(next_steps=["nowhere"]),
    "no next step": lambda b: step(b, "middle").update(next_steps=[]),
    "an unknown region": lambda b: step(b, "middle").update(splits=["nowhere"]),
    "a region that opens nothing": lambda b: step(b, "middle").update(splits=["start"]),
    "a foreach that is none": lambda b: step(b, "middle").update(foreach_path=["start"]),
    "a join that closes nothing": lambda b: step(b, "middle").update(kind="join", closes="nowhere"),
    "a split that nothing closes": lambda b: step(b, "middle").update(kind="foreach"),
    "a kind that there is not": lambda b: step(b, "middle").update(kind="maybe"),
    "a step twice": lambda b: b["graph"]["steps"].append(copy.deepcopy(step(b, "middle"))),
    "no steps": lambda b: b["graph"].update(steps=[]),
    "another start": lambda b: b["graph"].update(start="nowhere"),
    "a cycle": lambda b: step(b, "start").update(parents=["end"]),
    "a name of a step that is a path": lambda b: step(b, "middle").update(name="../x"),
    "a name of a flow that is a path": lambda b: b["graph"].update(name="../../x"),
    "an empty name of a flow": lambda b: b["graph"].update(name=""),
    "an id with a blank": lambda b: b["deployment"].update(name="a b"),
    "an id with a template": lambda b: b["deployment"].update(name="{{ ds }}"),
    "an empty id": lambda b: b["deployment"].update(name=""),
    "an id that is too long": lambda b: b["deployment"].update(name="x" * 300),
    "a parameter that is an option": lambda b: b["graph"].update(
        parameters=[{"name": "-x", "variable": "x", "type": "str"}]
    ),
    "a parameter with an equals sign": lambda b: b["graph"].update(
        parameters=[{"name": "a=b --tag", "variable": "x", "type": "str"}]
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_forged_manifest_is_refused_by_one_error(case: str) -> None:
    data = changed("linear", CASES[case])
    with pytest.raises(ManifestError, match=r"manifest forged is damaged"):
        decode_manifest(data, "forged")


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


RAW = {
    "deep": nested(200_000).encode(),
    "deep-inside": f'{{"schema_version": 1, "digest": "0", "manifest": {nested(200_000)}}}'.encode(),
    "deep-attribute": b"",
    "empty": b"",
    "number": b"7",
    "text": b'"x"',
    "list": b"[]",
    "null": b"null",
    "latin": '{"schema_version": 1, "digest": "ü"}'.encode("latin-1"),
    "nul": b"\0" * 100,
    "version": b'{"schema_version": {"a": 1}}',
    "huge-number": b'{"schema_version": 1' + b"0" * 5000 + b"}",
    "no-manifest": b'{"schema_version": 1, "digest": "0"}',
}


def deep_attribute() -> bytes:
    body = json.dumps(body_of("linear")).replace('"remote": {}', "").rstrip("}")
    return (
        f'{{"schema_version": 1, "digest": "0", "manifest": {body}}}, "remote": {{"a": {nested(100_000)}}}}}}}'.encode()
    )


RAW["deep-attribute"] = deep_attribute()


@pytest.mark.parametrize("case", RAW)
def test_what_is_no_manifest_is_refused_by_one_error(case: str) -> None:
    with pytest.raises(ManifestError, match="manifest raw"):
        decode_manifest(RAW[case], "raw")


def test_a_folder_gives_all_good_dags_and_one_error_per_bad_file(tmp_path: Path) -> None:
    folder = tmp_path / "flows"
    folder.mkdir()
    for flow in ("linear", "switch", "parallel"):
        (folder / f"{flow}.metaflow.json").write_bytes(encode_manifest(manifest_of(flow)))
    bad = {f"forged {number}": changed("linear", case) for number, case in enumerate(CASES.values())}
    bad |= {f"raw-{name}": data for name, data in RAW.items()}
    # Of a name that is taken, with letters that no id may hold, and with one that Airflow serializes badly.
    bad["zwilling ü {{x}}"] = encode_manifest(manifest_of("linear"))
    for name, data in bad.items():
        (folder / f"{name}.metaflow.json").write_bytes(data)
    (folder / "folder.metaflow.json").mkdir()
    (folder / "folder.py").mkdir()
    (folder / "dangling.metaflow.json").symlink_to(folder / "nowhere")
    namespace: dict[str, Any] = {}
    dags = load_flows(namespace, folder)
    good = [dag for dag in dags if not isinstance(dag, BrokenFlowDag)]
    broken = [dag for dag in dags if isinstance(dag, BrokenFlowDag)]
    assert sorted(dag.dag_id for dag in good) == ["linear", "parallel", "switch"]
    assert len(broken) == len(bad) + 2
    assert len({dag.dag_id for dag in dags}) == len(dags) == len(namespace)
    assert len({dag.relative_fileloc for dag in broken}) == len(broken)
    for dag in good:
        assert DagSerialization.to_dict(dag)["dag"]["tasks"]
    for dag in broken:
        dag.validate()
        with pytest.raises(Exception, match=r"manifest|deployments of one name"):
            DagSerialization.to_dict(dag)


PATHS = st.integers(0, 10_000)
VALUES = st.sampled_from(
    [None, "", "nowhere", "start", "end", "middle", "../x", -1, 0, 3.5, True, [], {}, ["start"], [["x"]]]
)


def places(document: Any) -> list[tuple[Any, Any]]:
    """Return container and key of each value of a document."""
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    found = []
    for key, value in list(items):
        found += [(document, key), *places(value)]
    return found


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(SHAPES), st.lists(st.tuples(PATHS, VALUES | st.just("delete")), min_size=1, max_size=3))
def test_whatever_is_changed_a_manifest_is_refused_or_can_be_planned(flow: str, changes: list[tuple[int, Any]]) -> None:
    body = body_of(flow)
    for number, value in changes:
        found = places(body)
        container, key = found[number % len(found)]
        if value == "delete":
            del container[key]
        else:
            container[key] = copy.deepcopy(value)
    try:
        manifest = decode_manifest(forged(body), "m")
    except ManifestError:
        return
    try:
        plan = plan_dag(manifest.graph)
    except MetaflowProviderError:
        return
    assert {task.step for task in plan.tasks} == {step.name for step in manifest.graph.steps}
