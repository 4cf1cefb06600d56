"""The examples parse, as Airflow parses them, and stand in the documentation as they are."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from tests.support.interpreter import python
from tests.support.object_store import ObjectStore

from site_pages import GENERATED

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "dags_examples"
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md"])

DEMO = {"start", "region", "region-splits", "train", "compare", "winners", "decide", "report"}


@pytest.mark.subprocess
@pytest.mark.parametrize(
    ("file", "dags"),
    [
        ("demo_dag.py", {"DemoFlow": DEMO}),
        ("nightly_dag.py", {"nightly": {"regions", "strict.start", "lenient.region-splits", "report"}}),
        pytest.param(
            "folder_dags.py",
            {"DemoFlow": DEMO, "OnOrderFlow": {"start"}, "AfterDemoFlow": {"on-success-report"}},
            marks=pytest.mark.extended,
        ),
        ("events_dag.py", {"OnOrderFlow": {"end"}, "AfterDemoFlow": {"on-error-report"}, "publisher": {"publish"}}),
        ("queue_dag.py", {"on_queue": {"start", "end"}}),
        ("run_dag.py", {"run_demo": {"run", "winner", "artifact-text", "report"}}),
        ("pools_dag.py", {"demo_pools": DEMO}),
        pytest.param("notify_dag.py", {"ScheduledFlow": {"start"}}, marks=pytest.mark.extended),
        ("training_dag.py", {"TrainingFlow": {"start", "train", "join", "end"}}),
    ],
)
def test_an_example_parses(
    file: str, dags: dict[str, set[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(tmp_path))
    bag = DagBag(str(EXAMPLES / file))
    assert bag.import_errors == {}
    assert set(dags) <= set(bag.dags)
    for dag_id, tasks in dags.items():
        assert tasks <= set(bag.dags[dag_id].task_ids)


@pytest.mark.subprocess
def test_the_value_of_an_artifact_is_read_after_the_sensor_has_found_it() -> None:
    from airflow.dag_processing.dagbag import DagBag

    dag = DagBag(str(EXAMPLES / "run_dag.py")).dags["run_demo"]
    assert dag.get_task("artifact-text").upstream_task_ids == {"run", "winner"}


@pytest.mark.extended
@pytest.mark.subprocess
def test_the_flow_of_the_quickstart_runs_and_a_notebook_reads_its_result(tmp_path: Path) -> None:
    environment = {**os.environ, "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(tmp_path), "METAFLOW_USER": "ann"}
    ran = subprocess.run(
        [python(), EXAMPLES / "flows/training.py", "run", "--updates", "5"],
        env=environment, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    read = subprocess.run(
        [python(), EXAMPLES / "read_training.py"], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert read.stdout.startswith("TrainingFlow/"), read.stderr
    assert "'rate': 0.02" in read.stdout


@pytest.mark.subprocess
def test_a_pool_of_the_translator_and_one_of_an_override_reach_their_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(tmp_path))
    dag = DagBag(str(EXAMPLES / "pools_dag.py")).dags["demo_pools"]
    assert dag.get_task("train").pool == "wide"
    assert dag.get_task("start").pool == "ml"
    assert (dag.get_task("compare").priority_weight, dag.get_task("compare").pool_slots) == (10, 2)


@pytest.mark.subprocess
def test_the_mixed_example_sends_each_step_where_it_belongs(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.dag_processing.dagbag import DagBag

    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    bag = DagBag(str(EXAMPLES / "mixed_compute_dag.py"))
    assert bag.import_errors == {}
    tasks = bag.dags["MixedComputeFlow"].task_dict
    assert {name: task.placement and task.placement.compute.value for name, task in tasks.items()} == {
        "start": None, "train": "batch", "evaluate": "kubernetes", "end": None,
    }  # fmt: skip
    options = tasks["evaluate"].placement.options
    assert (options["namespace"], options["memory"]) == ("ml", "4096")
    assert tasks["train"].runs_arrays
    assert tasks["start"].pack_size == 10_000


@pytest.mark.extended
@pytest.mark.subprocess
def test_a_workflow_of_ones_own_holds_a_flow_twice_and_hands_on_its_runs(store: ObjectStore, tmp_path: Path) -> None:
    environment = {**os.environ, **store.environment, "XDG_CACHE_HOME": str(tmp_path)}
    program, flow = ROOT / "docs/argo/own_workflow.py", ROOT / "tests/flows/switch.py"
    done = subprocess.run(
        [python(), program, flow, "image:1", "flows"], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    workflow = json.loads(done.stdout)
    templates = {one["name"]: one for one in workflow["spec"]["templates"]}
    assert {"main", "choose", "report", "one", "one-start", "two", "two-start"} <= set(templates)
    tasks = {one["name"]: one for one in templates["main"]["dag"]["tasks"]}
    assert tasks["one"]["arguments"]["parameters"][0]["value"] == "{{tasks.choose.outputs.parameters.route}}"
    runs = {one["name"]: one["value"] for one in tasks["report"]["arguments"]["parameters"]}
    assert runs == {
        "first": "{{tasks.one.outputs.parameters.pathspec}}", "second": "{{tasks.two.outputs.parameters.pathspec}}",
    }  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_the_examples_of_a_page_are_files_that_the_tests_run(page: Path) -> None:
    text = page.read_text()
    for name, block in re.findall(r"<!-- (dags_examples/\S+) -->\n```python\n(.*?)```", text, re.DOTALL):
        assert block == (ROOT / name).read_text(), f"{page.name}: {name}"
    for link in re.findall(r"\]\(([^)#:]+)[)#]", text):
        assert link in GENERATED or (page.parent / link).exists(), f"{page.name} links to {link}"
