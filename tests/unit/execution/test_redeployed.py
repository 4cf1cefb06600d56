"""A deployment in the middle of a run: it goes on with what it began with, or fails; it never leaves steps out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import DAG
from msgspec.structs import replace
from tests.support.task_runs import FlowRun, MemoryMetaflow

from airflow_provider_metaflow import MetaflowDag
from metaflow_orchestration.documents.manifest import Manifest, encode_manifest
from metaflow_orchestration.graph.model import FlowGraph, Step, StepKind

OLD, NEW = "a" * 40, "b" * 40


def longer(graph: FlowGraph) -> FlowGraph:
    """Return the graph of start, middle and end with a step `extra` between the last two."""
    steps: list[Step] = []
    for step in graph.steps:
        if step.name == "middle":
            steps.append(replace(step, next_steps=("extra",)))
            steps.append(Step(name="extra", kind=StepKind.LINEAR, next_steps=("end",), parents=("middle",)))
        elif step.name == "end":
            steps.append(replace(step, parents=("extra",)))
        else:
            steps.append(step)
    return replace(graph, steps=tuple(steps))


def deployed(manifest: Manifest, tmp_path: Any, graph: FlowGraph, code: str) -> DAG:
    path = tmp_path / "linear.metaflow.json"
    path.write_bytes(encode_manifest(replace(manifest, graph=graph, code=replace(manifest.code, sha=code))))
    return MetaflowDag(path)


@pytest.fixture
def manifest(recorded: Callable[[str], Manifest]) -> Manifest:
    return recorded("linear")


def test_a_step_that_was_not_there_when_the_run_began_fails_and_is_not_skipped(
    manifest: Manifest, metaflow: MemoryMetaflow, tmp_path: Any
) -> None:
    """It found no input and was skipped, as was every step after it, and the run succeeded cut short."""
    run = FlowRun(deployed(manifest, tmp_path, manifest.graph, OLD))
    run.run_all("start", "middle")
    run.dag = deployed(manifest, tmp_path, longer(manifest.graph), NEW)
    ended = run.run("extra")
    assert ended == "failed"
    for part in ("flow LinearFlow step extra", f"package {OLD[:12]}", f"({NEW[:12]})", "Clear the whole run", "bundle"):
        assert part in str(ended.error)
    assert metaflow.ran() == ["start/t", "middle/t"]


def test_a_step_before_which_another_was_put_says_so_where_no_xcom_can_tell(
    manifest: Manifest, metaflow: MemoryMetaflow, tmp_path: Any
) -> None:
    """Airflow may try it before it has made an instance of the new step."""
    run = FlowRun(deployed(manifest, tmp_path, manifest.graph, OLD))
    run.run_all("start", "middle")
    run.dag = deployed(manifest, tmp_path, longer(manifest.graph), NEW)
    ended = run.run("end")
    assert (ended.state, "began with another graph" in str(ended.error)) == ("failed", True)


def test_a_step_whose_parent_is_gone_fails_and_is_not_skipped(
    manifest: Manifest, metaflow: MemoryMetaflow, tmp_path: Any
) -> None:
    run = FlowRun(deployed(manifest, tmp_path, longer(manifest.graph), OLD))
    run.run_all("start", "middle", "extra")
    run.dag = deployed(manifest, tmp_path, manifest.graph, NEW)
    # `middle` has ended and names `extra` as its next step.
    ended = run.run("end")
    assert (ended.state, "began with another graph" in str(ended.error)) == ("failed", True)


def test_a_run_goes_on_after_a_deployment_of_the_same_graph(
    manifest: Manifest, metaflow: MemoryMetaflow, tmp_path: Any
) -> None:
    run = FlowRun(deployed(manifest, tmp_path, manifest.graph, OLD))
    run.run_all("start", "middle")
    documented = replace(manifest.graph, doc="Another text.")
    run.dag = deployed(manifest, tmp_path, documented, NEW)
    run.run_all("end")
    assert metaflow.inputs("end") == ["middle/t"]
    # With the code that it began with.
    assert metaflow.codes[-1].rpartition("/")[2] == OLD


def with_environment(graph: FlowGraph, **variables: str) -> FlowGraph:
    """Return the graph, each step with variables of `@environment`."""
    steps = tuple(replace(step, environment=tuple(sorted(variables.items()))) for step in graph.steps)
    return replace(graph, steps=steps)


def redeployed(
    manifest: Manifest, tmp_path: Any, metaflow: MemoryMetaflow, *steps: str
) -> tuple[FlowRun, Callable[[], list[dict[str, str]]]]:
    """Return a run, begun with MODE=old and redeployed with MODE=new, and what its tasks then have of variables."""
    run = FlowRun(deployed(manifest, tmp_path, with_environment(manifest.graph, MODE="old"), OLD))
    run.run_all(*steps)
    before = len(metaflow.calls)
    run.dag = deployed(manifest, tmp_path, with_environment(manifest.graph, MODE="new"), NEW)
    return run, lambda: [dict(call.step.environment) for call in metaflow.calls[before:]]


def test_a_run_goes_on_with_the_whole_manifest_that_it_began_with(
    manifest: Manifest, metaflow: MemoryMetaflow, tmp_path: Any
) -> None:
    run, variables = redeployed(manifest, tmp_path, metaflow, "start")
    run.run_all("middle", "end")
    assert variables() == [{"MODE": "old"}] * 2
    run.clear("start")
    run.run_all("start", "middle", "end")
    assert variables()[2:] == [{"MODE": "new"}] * 3


def test_the_manifest_is_found_where_the_xcoms_were_deleted(
    manifest: Manifest, metaflow: MemoryMetaflow, tmp_path: Any
) -> None:
    run, variables = redeployed(manifest, tmp_path, metaflow, "start")
    run.xcoms.clear()
    run.run_all("middle")
    assert variables() == [{"MODE": "old"}]


def test_a_manifest_that_is_gone_fails_the_run_and_says_what_to_clear(
    manifest: Manifest, metaflow: MemoryMetaflow, tmp_path: Any
) -> None:
    run, variables = redeployed(manifest, tmp_path, metaflow, "start")
    for name in [one for one in metaflow.records if one.startswith("manifest-")]:
        del metaflow.records[name]
    ended = run.run("middle")
    assert ended == "failed"
    assert "is not in the datastore any more" in str(ended.error)
    assert "Clear the whole run" in str(ended.error)
    assert variables() == []


@pytest.mark.parametrize("forged", ["another datastore", "another flow", "another text", "no manifest"])
def test_a_manifest_that_is_not_the_flows_own_is_refused(
    manifest: Manifest, metaflow: MemoryMetaflow, tmp_path: Any, forged: str
) -> None:
    """Who edits XComs, and can put an object there, must not choose where commands and code come from."""
    run, variables = redeployed(manifest, tmp_path, metaflow, "start")
    other = replace(manifest, code=replace(manifest.code, sha=OLD))
    if forged == "another datastore":
        other = replace(other, command=replace(other.command, datastore_root="/tmp/elsewhere"))
    if forged == "another flow":
        other = replace(other, graph=replace(other.graph, name="OtherFlow"))
    text = "[]" if forged == "no manifest" else encode_manifest(other).decode()
    digest = hashlib.sha256(text.encode()).hexdigest()
    metaflow.records[f"manifest-{digest}"] = {"manifest": f" {text}" if forged == "another text" else text}
    run.xcoms["start", -1, "metaflow"]["manifest"] = digest
    ended = run.run("middle")
    assert ended == "failed"
    assert ("was edited" if forged != "no manifest" else "manifest-") in str(ended.error)
    assert variables() == []


def test_a_step_without_any_input_fails_where_no_switch_can_have_left_it_out(
    manifest: Manifest, metaflow: MemoryMetaflow, tmp_path: Any
) -> None:
    run = FlowRun(deployed(manifest, tmp_path, manifest.graph, OLD))
    ended = run.run("middle")
    assert ended == "failed"
    assert "has no input: no task of start has reported a result" in str(ended.error)


def test_two_versions_of_one_shape_have_one_digest(recorded: Callable[[str], Manifest]) -> None:
    graph = recorded("linear").graph
    renamed = tuple(replace(step, line=99, doc="x") for step in graph.steps)
    assert graph.shape == replace(graph, steps=renamed, doc="y").shape
    assert graph.shape != longer(graph).shape
    shapes = ("linear", "foreach", "nested_foreach", "switch", "recursion", "parallel", "static_split")
    assert len({recorded(name).graph.shape for name in shapes}) == len(shapes)
