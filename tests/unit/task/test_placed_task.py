"""A container that knows only its place finds its attempt, its inputs and its options in the datastore."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from metaflow.datastore import FlowDataStore
from metaflow.plugins import DATASTORES

from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task import placed_task, resumed_run, task_place
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task.task_place import Place

LOCAL = next(one for one in DATASTORES if one.TYPE == "local")
FORK = {"sources": {"branches": [{"parent": "start", "depth": 0}]}}


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class Results:
    """The module `task_results` over a real datastore; the outcomes are what the test says."""

    def __init__(self, root: Path) -> None:
        self.store = FlowDataStore("F", None, storage_impl=LOCAL, ds_root=str(root))
        self.outcomes: dict[tuple[str, str, str], Any] = {}

    def flow_datastore(self, document: dict[str, Any]) -> Any:
        return self.store

    def stored_outcome(self, store: Any, run: str, step: str, task: str, least: int) -> Any:
        return self.outcomes.get((run, step, task))

    def begin(self, step: str, task: str, attempt: int) -> None:
        self.store.get_task_datastore("r", step, task, attempt=attempt, mode="w").init_task()


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Results:
    monkeypatch.setattr(os, "environ", {**os.environ, task_place.RUN_VARIABLE: "r"})
    return Results(tmp_path / "store")


def completed(results: Results, step: str = "work", **changed: Any) -> dict[str, Any]:
    document = {
        "step": step, "top_level": ["--quiet"], "with": [], "step_options": ["--namespace=n"], "init_options": [],
        "parameters": [], "env": {}, "retries": 2, "error_retries": 0, **FORK, **changed,
    }  # fmt: skip
    return placed_task.complete(document, results)


@pytest.mark.parametrize(
    ("variables", "run_id", "path", "iteration"),
    [
        ({"METAFLOW_ORCHESTRATOR_PLACE": ""}, "r", (), 0),
        ({"METAFLOW_ORCHESTRATOR_PLACE": "3-0-", "METAFLOW_ORCHESTRATOR_ITERATION": "2"}, "r", (3, 0), 2),
        ({"METAFLOW_ORCHESTRATOR_PLACE": "wf@1"}, "r-wf", (1,), 0),
        ({"METAFLOW_ORCHESTRATOR_PLACE": f"={encoded('wf.2')}@1"}, "r-wf.2", (1,), 0),
        ({"METAFLOW_ORCHESTRATOR_PLACE_BASE64": encoded("wf@4")}, "r-wf", (4,), 0),
    ],
)
def test_a_place_is_read_from_the_variables(
    variables: dict[str, str], run_id: str, path: tuple[int, ...], iteration: int
) -> None:
    place = Place.read({task_place.RUN_VARIABLE: "r", **variables})
    assert (place.run_id, place.path, place.iteration) == (run_id, path, iteration)


@pytest.mark.parametrize("prefix", ["../x", "a/b", ".", f"={encoded('a/../b')}"])
def test_a_place_that_leads_out_of_the_flows_folder_is_refused(prefix: str) -> None:
    # Behind the run id and a dash, a dot is a name like others.
    if prefix == ".":
        variables = {task_place.RUN_VARIABLE: ".", task_place.PLACE_VARIABLE: ""}
    else:
        variables = {task_place.RUN_VARIABLE: "r", task_place.PLACE_VARIABLE: f"{prefix}@1"}
    with pytest.raises(SystemExit, match="The name of the run is"):
        Place.read(variables)


def test_a_first_try_has_the_task_of_its_place_and_all_retries_left(results: Results) -> None:
    os.environ[task_place.PLACE_VARIABLE] = "3-"
    found = completed(results)
    assert found["arguments"] == [
        "--quiet", "step", "work", "--run-id=r", "--retry-count=0", "--max-user-code-retries=2", "--namespace=n",
        "--input-paths=r/start/t-start",
    ]  # fmt: skip
    assert found["tasks"] == [{"task_id": "t-work-3", "arguments": ["--task-id=t-work-3", "--split-index=3"]}]
    assert os.environ["METAFLOW_TASK_ID"] == found["env"]["METAFLOW_TASK_ID"] == "t-work-3"


def test_a_later_try_has_the_next_attempt_and_fewer_retries(results: Results) -> None:
    results.begin("work", "t-work", 0)
    os.environ[task_place.TRY_VARIABLE] = "1"
    assert {"--retry-count=1", "--max-user-code-retries=2"} < set(completed(results)["arguments"])
    # The orchestrator's count holds submissions that were refused.
    os.environ[task_place.TRY_VARIABLE] = "2"
    assert "--max-user-code-retries=1" in completed(results)["arguments"]
    assert "--max-user-code-retries=2" in completed(results, counts_submissions=True)["arguments"]


def test_what_an_earlier_try_has_finished_is_not_done_again(results: Results) -> None:
    results.begin("work", "t-work", 0)
    results.outcomes["r", "work", "t-work"] = {"next": ["end"]}
    found = completed(results)
    assert found["finished"] == {"next": ["end"]}
    assert "tasks" not in found


def test_a_seventh_attempt_is_refused_with_what_to_do(results: Results) -> None:
    for attempt in range(6):
        results.begin("work", "t-work", attempt)
    with pytest.raises(SystemExit, match="allows 6 attempts of a task, and work/t-work has had them; resume the run"):
        completed(results)


def test_the_first_step_gets_the_parameters_and_the_events_of_the_run(results: Results) -> None:
    event = json.dumps({"id": "1", "name": "e", "timestamp": 5, "other": 6})
    given = [
        {"name": "size", "value": "3"}, {"name": "none", "value": "null"}, {"name": "word", "value": "null"},
        {"name": "absent", "value": None}, {"name": "unknown", "value": "x"}, {"name": "event-0", "value": event},
        {"name": "event-1", "value": "{"}, {"name": "event-2", "value": "null"},
    ]  # fmt: skip
    os.environ[task_place.PARAMETERS_VARIABLE] = encoded(json.dumps(given))
    found = completed(
        results, "start", sources=None, parameters=["size", "none", "word", "absent"], nullable=["none"],
        triggers={"event-0": "event", "event-1": "run", "event-2": "event"}, files={"word": "f"},
    )  # fmt: skip
    assert found["init"] == {
        "task_id": "t-params",
        "arguments": ["--quiet", "init", "--run-id=r", "--task-id=t-params", "--size=3", "--word=null"],
        "files": {"word": "f"},
    }
    assert found["arguments"][-1] == "--input-paths=r/_parameters/t-params"
    assert json.loads(os.environ["METAFLOW_ORCHESTRATOR_TRIGGERS"]) == [
        {"timestamp": 5, "id": "1", "name": "e", "type": "event"},
        {"timestamp": None, "id": None, "name": None, "type": "run"},
    ]


def test_parameters_may_come_as_names_and_values_or_with_the_document(results: Results) -> None:
    os.environ[task_place.PARAMETERS_VARIABLE] = encoded('{"size": "3"}')
    assert "--size=3" in completed(results, "start", sources=None, parameters=["size"])["init"]["arguments"]
    given = completed(results, "start", sources=None, parameters=["size"], given={"size": "4"})
    assert "--size=4" in given["init"]["arguments"]


def test_a_later_iteration_follows_the_one_before_it(results: Results) -> None:
    os.environ[task_place.ITERATION_VARIABLE] = "2"
    found = completed(results)
    assert found["tasks"][0]["task_id"] == "t-work-r2"
    assert found["arguments"][-1] == "--input-paths=r/work/t-work-r1"


def test_a_resumed_run_takes_over_what_has_succeeded_and_is_not_run_anew(results: Results) -> None:
    results.outcomes["old", "work", "t-work"] = {"next": []}
    os.environ[task_place.ORIGIN_VARIABLE] = "old:end"
    assert "--clone-only=old/work/t-work" in completed(results)["tasks"][0]["arguments"]
    # An older release has made that run.
    results.outcomes["older", "work", "t"] = {"next": []}
    os.environ[task_place.ORIGIN_VARIABLE] = "older:end"
    assert "--clone-only=older/work/t" in completed(results)["tasks"][0]["arguments"]
    os.environ[task_place.ORIGIN_VARIABLE] = "old:work:end"
    found = completed(results)
    assert found["tasks"][0]["arguments"] == ["--task-id=t-work"]
    assert "--clone-run-id=old" in found["arguments"]
    os.environ[task_place.ORIGIN_VARIABLE] = "old:end:--size"
    found = completed(results)
    assert "--clone-only=old/work/t-work" in found["tasks"][0]["arguments"]
    # A step behind it sees the parameters of this run, though the clone has those of the other.
    assert found["env"][resumed_run.PARAMETERS_TASK_VARIABLE] == "r/_parameters/t-params"
    os.environ[task_place.ORIGIN_VARIABLE] = "../old"
    with pytest.raises(SystemExit, match="The name of the run to resume is"):
        completed(results)


def test_a_resumed_run_takes_the_parameters_from_its_origin_that_it_was_not_given(results: Results) -> None:
    os.environ[task_place.ORIGIN_VARIABLE] = "old:start:--size"
    os.environ[task_place.PARAMETERS_VARIABLE] = encoded('{"size": "3"}')
    found = completed(results, "start", sources=None, parameters=["size", "word"])
    assert found["init"]["inherit"] == {"run": "old", "given": ["size"]}
    assert "--size=3" in found["init"]["arguments"]
    os.environ[task_place.ORIGIN_VARIABLE] = ""
    found = completed(results, "start", sources=None, parameters=["size", "word"])
    assert "inherit" not in found["init"]
    assert resumed_run.PARAMETERS_TASK_VARIABLE not in found["env"]


def test_the_nodes_of_a_gang_share_the_attempt_and_address_of_the_control_node(results: Results) -> None:
    results.begin("work", "t-work", 0)
    os.environ.update(
        {task_place.NODES_VARIABLE: "2", task_place.GANG_VARIABLE: "job-1", task_place.ADDRESS_VARIABLE: "node-0"}
    )
    control = completed(results, is_gang=True)
    assert (control["attempt"], control["gang"]) == (1, 2)
    assert control["tasks"][0]["arguments"] == ["--task-id=t-work", "--split-index=0", "--ubf-context=ubf_control"]
    # The control node has begun: a node that counted would count that attempt.
    results.begin("work", "t-work", 1)
    os.environ["JOB_COMPLETION_INDEX"] = "1"
    del os.environ["MF_MASTER_ADDR"]
    assert completed(results, is_gang=True)["attempt"] == 1
    assert os.environ["MF_MASTER_ADDR"] == "node-0"


def test_a_gang_whose_control_node_does_not_start_is_given_up(results: Results) -> None:
    with pytest.raises(SystemExit, match="has not started in -1 s"):
        placed_task.await_record(results.store._storage_impl, "mf.gangs/r/absent", -1)


def test_a_gang_of_one_runs_as_on_one_machine(results: Results) -> None:
    os.environ.update({task_place.NODES_VARIABLE: "1", "METAFLOW_RUNTIME_ENVIRONMENT": "kubernetes"})
    found = completed(results, env={"METAFLOW_RUNTIME_ENVIRONMENT": "kubernetes"})
    assert "METAFLOW_RUNTIME_ENVIRONMENT" not in found["env"]
    assert "METAFLOW_RUNTIME_ENVIRONMENT" not in os.environ


def test_facts_of_a_finished_task_go_to_the_files_that_are_asked_for(tmp_path: Path) -> None:
    files = {name: str(tmp_path / "out" / name) for name in ("splits", "next", "nodes", "pathspec")}
    document = {"flow_name": "F", "run_id": "argo-x-train", "outputs": files}
    placed_task.write_outputs({"num_splits": 3, "next": ["a", "b"]}, document)
    assert {name: Path(file).read_text() for name, file in files.items()} == {
        "splits": "3", "next": "a", "nodes": "None", "pathspec": "F/argo-x-train",
    }  # fmt: skip
