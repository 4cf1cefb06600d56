"""Arguments of Airflow's operators in `default_args`: what counts beside the flow, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, Asset, TaskGroup
from tests.support.task_runs import FlowRun, MemoryMetaflow

from airflow_provider_metaflow import MetaflowDag, MetaflowTaskGroup
from metaflow_orchestration.documents.manifest import Manifest, encode_manifest
from metaflow_orchestration.exceptions import InvalidOptionError

MakeFile = Callable[..., Path]


@pytest.fixture
def manifest_file(compiled: Callable[..., Manifest], tmp_path: Path) -> MakeFile:
    """Writes the manifest of a shape beside a DAG file."""

    def write(shape: str) -> Path:
        path = tmp_path / f"{shape}.metaflow.json"
        path.write_bytes(encode_manifest(compiled(shape)))
        return path

    return write


@pytest.fixture
def metaflow(monkeypatch: pytest.MonkeyPatch) -> MemoryMetaflow:
    return MemoryMetaflow().install(monkeypatch)


def names(dag: DAG, step: str) -> list[str]:
    return [asset.name for asset in dag.get_task(step).outlets]


def test_outlets_stand_beside_the_event_of_the_step(manifest_file: MakeFile) -> None:
    outlets = [Asset("report")]
    bare = MetaflowDag(manifest_file("linear"), "bare")
    dag = MetaflowDag(manifest_file("linear"), default_args={"outlets": outlets})
    assert (names(bare, "start"), len(names(bare, "end"))) == ([], 1)
    assert names(dag, "start") == ["report"]
    assert names(dag, "end") == [*names(bare, "end"), "report"]
    assert len(outlets) == 1, "the user's own list stays"


def test_no_outlets_for_a_step_leave_its_event_in_place(manifest_file: MakeFile) -> None:
    dag = MetaflowDag(
        manifest_file("linear"), default_args={"outlets": [Asset("report")]}, step_overrides={"end": {"outlets": []}}
    )
    assert names(dag, "end") == names(MetaflowDag(manifest_file("linear"), "bare"), "end") != []


@pytest.mark.parametrize(
    ("shape", "step", "task"),
    [("foreach", "start", "start"), ("nested_foreach", "fan", "fan-splits")],
)
def test_a_task_that_others_are_mapped_over_must_push_its_xcom(
    manifest_file: MakeFile, shape: str, step: str, task: str
) -> None:
    overrides = {"start": {"do_xcom_push": True}} if step != "start" else {}
    with pytest.raises(InvalidOptionError) as caught:
        MetaflowDag(manifest_file(shape), default_args={"do_xcom_push": False}, step_overrides=overrides)
    text = str(caught.value)
    assert f" step {step}: its task {task} has do_xcom_push=False" in text
    assert text.endswith("Leave do_xcom_push out, or give it to other steps only, by step_overrides.")


def test_a_task_group_in_a_dag_whose_tasks_push_no_xcom_is_refused_if_it_needs_one(manifest_file: MakeFile) -> None:
    def around(shape: str, **arguments: Any) -> MetaflowTaskGroup:
        with DAG("around", schedule=None, default_args={"do_xcom_push": False}):
            return MetaflowTaskGroup(manifest_file(shape), "flow", **arguments)

    with pytest.raises(InvalidOptionError, match=r"step start: its task flow.start has do_xcom_push=False"):
        around("foreach")
    with pytest.raises(InvalidOptionError, match=r"flow LinearFlow step end: `pathspec` is its XCom.*step_overrides="):
        _ = around("linear").pathspec
    assert around("linear", step_overrides={"end": {"do_xcom_push": True}}).pathspec.operator.task_id == "flow.end"


def test_a_flow_without_a_foreach_runs_without_xcoms_of_what_its_tasks_return(
    manifest_file: MakeFile, metaflow: MemoryMetaflow
) -> None:
    run = FlowRun(MetaflowDag(manifest_file("static_split"), default_args={"do_xcom_push": False}))
    run.run_all(*[task.task_id for task in run.dag.topological_sort()])
    assert run.value("end") is None
    assert len(metaflow.calls) == len(run.dag.task_dict)


@pytest.mark.parametrize(("name", "value"), [("trigger_rule", "all_done"), ("parameters", {"text": "a"})])
def test_what_could_take_no_effect_is_refused(manifest_file: MakeFile, name: str, value: object) -> None:
    match = rf"flow GroupedFlow: default_args has the key '{name}', which contradicts the flow: .*Leave it out\."
    with pytest.raises(InvalidOptionError, match=match):
        MetaflowDag(manifest_file("grouped"), default_args={name: value})
    with DAG("around", schedule=None), pytest.raises(InvalidOptionError, match=match):
        MetaflowTaskGroup(manifest_file("grouped"), "flow", default_args={name: value})


def test_a_template_in_the_params_of_default_args_is_refused(manifest_file: MakeFile) -> None:
    with pytest.raises(InvalidOptionError, match=r"template for parameter 'text'"):
        MetaflowDag(manifest_file("grouped"), default_args={"params": {"text": "{{ ds }}"}})


def test_what_default_args_mean_for_other_tasks_of_a_larger_dag_breaks_no_flow_in_it(
    manifest_file: MakeFile, metaflow: MemoryMetaflow
) -> None:
    """`parameters` of an SQL operator took the place of those of the run, and lists were no result."""
    given = {"parameters": {"text": "of sql"}, "multiple_outputs": True, "trigger_rule": "all_done"}
    with DAG("around", schedule=None, default_args=given) as dag, pytest.warns(UserWarning, match="trigger_rule"):
        MetaflowTaskGroup(manifest_file("grouped"), "flow")
    run = FlowRun(dag)
    run.run_all(*[f"flow.{step}" for step in ("start", "body", "collect", "end")])
    assert metaflow.parameters[0] == {"text": "default"}
    assert {task.trigger_rule for task in dag.tasks} == {"all_success"}


def test_the_label_of_mapped_tasks_can_be_another_one(manifest_file: MakeFile) -> None:
    dag = MetaflowDag(manifest_file("foreach"), default_args={"map_index_template": "{{ run_id }}"})
    with DAG("around", schedule=None) as around, TaskGroup("more"):
        MetaflowTaskGroup(manifest_file("foreach"), "flow", default_args={"map_index_template": "{{ run_id }}"})
    for one in (dag, around):
        mapped = [task for task in one.tasks if task.get_closest_mapped_task_group() is not None]
        assert {task.map_index_template for task in mapped} == {"{{ run_id }}"}
