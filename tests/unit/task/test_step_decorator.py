"""What the step decorator tells an orchestrator, the metadata service and Argo Events of a task."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import metaflow
import pytest
from metaflow.datastore import FlowDataStore
from metaflow.plugins import DATASTORES
from metaflow.plugins.argo import argo_events

from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task import step_decorator, task_summary
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task.step_decorator import (
    OrchestratorInternalDecorator,
    describe_outcome,
    fill_attempt_gaps,
    wait_for_gang,
)

LOCAL = next(one for one in DATASTORES if one.TYPE == "local")
GRAPH = SimpleNamespace(start_step="start")


class Task:
    """A task of a flow between its hooks; notes what is registered, summed up and published."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = FlowDataStore("F", None, storage_impl=LOCAL, ds_root=str(folder / "store"))
        self.outcome = folder / "outcome.json"
        self.decorator = OrchestratorInternalDecorator()
        self.registered: list[Any] = []
        self.summaries: list[Any] = []
        self.updates: dict[str, Any] = {}
        monkeypatch.setattr(os, "environ", {**os.environ, step_decorator.OUTCOME_VARIABLE: str(self.outcome)})
        monkeypatch.setattr(step_decorator.current, "_update_env", self.updates.update)
        monkeypatch.setattr(task_summary, "make_summary", lambda _, **given: given)
        monkeypatch.setattr(task_summary, "save_summary", lambda *given: self.summaries.append(given))

    def begin(self, step: str = "start", *, others: Any = (), attempt: int = 0, context: str | None = None) -> None:
        self.decorator.step_init(None, GRAPH, step, others, None, self.store, None)
        metadata = SimpleNamespace(register_metadata=lambda *given: self.registered.append(given))
        inputs = [SimpleNamespace(ds_metadata={"objects": {"size": "1", "_graph": "2", "name": "3"}})]
        self.decorator.task_pre_step(step, None, metadata, "r", "t", None, GRAPH, attempt, 0, context, inputs)

    def end(self, step: str = "start", *, ok: bool = True, **artifacts: Any) -> None:
        flow = SimpleNamespace(**artifacts)
        flow.name = "F"
        if ok:
            self.decorator.task_post_step(step, flow, GRAPH, 0, 0)
        else:
            assert self.decorator.task_exception(ValueError(), step, flow, GRAPH, 0, 0) is False
        self.decorator.task_finished(step, flow, GRAPH, ok, 0, 0)


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    return Task(tmp_path, monkeypatch)


def test_a_task_that_succeeded_leaves_its_outcome_and_a_summary_with_small_values(task: Task) -> None:
    task.begin()
    task.end(size=3, _transition=(("end",), None))
    outcome = {"task_id": "t", "attempt": 0, "next": ["end"]}
    assert json.loads(task.outcome.read_text()) == outcome
    assert list(task.outcome.parent.glob("outcome.json.*")) == []
    ((store, *where, summary),) = task.summaries
    assert (store, where) == (task.store, ["r", "start", "t", 0])
    assert (summary["outcome"], summary["texts"], summary["parameters"]) == (outcome, {"size": "3"}, ["size"])


def test_a_task_that_failed_leaves_a_summary_without_an_outcome(task: Task) -> None:
    task.begin("middle")
    task.end("middle", ok=False, size=3)
    assert not task.outcome.exists()
    assert (task.summaries[0][-1]["outcome"], task.summaries[0][-1]["texts"]) == (None, {"size": "3"})
    assert task.summaries[0][-1]["parameters"] is None


def test_a_worker_of_a_local_gang_leaves_the_outcome_to_its_control_task(task: Task) -> None:
    task.begin(context="ubf_task")
    task.end()
    assert not task.outcome.exists()


def test_a_summary_that_cannot_be_written_does_not_fail_the_task(
    task: Task, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("no space")

    monkeypatch.setattr(task_summary, "save_summary", refuse)
    task.begin()
    task.end()
    assert task.outcome.exists()
    assert capsys.readouterr().err == "The summary of the task could not be written: no space\n"


def test_a_task_is_linked_to_the_run_of_its_orchestrator(task: Task) -> None:
    triggers = [{"timestamp": 1, "id": "i", "name": "e", "type": "event"}]
    os.environ[step_decorator.LINKS_VARIABLE] = json.dumps({"dag": "d"})
    os.environ[step_decorator.TRIGGERS_VARIABLE] = json.dumps(triggers)
    task.begin("start", attempt=1)
    task.begin("middle")
    (run, step, name, first), (*_, second) = task.registered
    assert (run, step, name) == ("r", "start", "t")
    assert [(one.field, one.value, one.tags) for one in first] == [
        ("dag", "d", ["attempt_id:1"]), ("execution-triggers", json.dumps(triggers), ["attempt_id:1"]),
    ]  # fmt: skip
    # Which events have started a run stands with its first task alone.
    assert [one.field for one in second] == ["dag"]
    assert task.updates["trigger"].event.name == "e"


def test_attempts_that_never_came_to_metaflow_are_marked_as_begun(task: Task) -> None:
    def begun() -> list[bool]:
        stores = [task.store.get_task_datastore("r", "s", "t", attempt=number, mode="w") for number in range(4)]
        return [one.has_metadata(one.METADATA_ATTEMPT_SUFFIX) for one in stores]

    task.store.get_task_datastore("r", "s", "t", attempt=1, mode="w").init_task()
    fill_attempt_gaps(task.store, "r", "s", "t", 3)
    # The fourth is the one that is to be made.
    assert begun() == [True, True, True, False]


@pytest.mark.parametrize(
    ("artifacts", "told"),
    [
        ({}, {"next": []}),
        ({"_transition": (("a", "b"), None)}, {"next": ["a", "b"]}),
        (
            {"_transition": (("a",), "items"), "_foreach_num_splits": 2, "_foreach_values": [1, "x"]},
            {"next": ["a"], "num_splits": 2, "values": ["1", "x"]},
        ),
        ({"_transition": (("a",), "items"), "_foreach_num_splits": 0}, {"next": ["a"], "num_splits": 0}),
        (
            {"_transition": (("a",), "_parallel_ubf_iter"), "_parallel_ubf_iter": SimpleNamespace(num_parallel=3)},
            {"next": ["a"], "num_parallel": 3},
        ),
        ({"_control_mapper_tasks": ["r/s/t", "r/s/t-node-1"]}, {"next": [], "gang": ["t", "t-node-1"]}),
        ({"_control_mapper_tasks": ["r/earlier/u", "r/earlier/u-node-1"]}, {"next": []}),
    ],
)
def test_an_outcome_says_what_follows(artifacts: dict[str, Any], told: dict[str, Any]) -> None:
    assert describe_outcome(artifacts.get, "t", 2) == {"task_id": "t", "attempt": 2, **told}


def test_the_end_of_a_task_is_published_with_the_fields_of_metaflows_own_deployer(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: list[Any] = []

    class Event:
        def __init__(self, name: str) -> None:
            self.name, self.payload = name, {}

        def add_to_payload(self, key: str, value: Any) -> None:
            self.payload[key] = value

        def safe_publish(self, ignore_errors: bool) -> None:
            published.append((self.name, self.payload, ignore_errors))

    project = {"project_name": "p", "is_production": True, "branch_name": None}
    current = SimpleNamespace(pathspec="F/r/start/t", get=project.get, _update_env=lambda _: None)
    monkeypatch.setattr(step_decorator, "current", current)
    monkeypatch.setattr(argo_events, "ArgoEvent", Event)
    os.environ[step_decorator.EVENTS_VARIABLE] = '["one", "two"]'
    task.begin()
    task.end()
    assert published == []
    monkeypatch.setattr("metaflow.metaflow_config.ARGO_EVENTS_WEBHOOK_URL", "http://events")
    task.end(ok=False)
    assert published == []
    task.end()
    assert [name for name, *_ in published] == ["one", "two"]
    _, payload, is_patient = published[0]
    assert is_patient is True
    assert payload == {
        "id": "F/r/start/t", "pathspec": "F/r/start/t", "flow_name": "F", "run_id": "r", "step_name": "start",
        "task_id": "t", "auto-generated-by-metaflow": True, "project_name": "p", "is_production": True,
    }  # fmt: skip


def test_a_gang_on_aws_batch_waits_for_its_own_nodes(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, other = SimpleNamespace(name="batch"), SimpleNamespace(name="resources")
    task.begin(others=(batch, other))
    assert not hasattr(batch, "_wait_for_mapper_tasks")
    os.environ["AWS_BATCH_JOB_NODE_INDEX"] = "0"
    task.begin(others=(batch, other))
    assert batch._wait_for_mapper_tasks is wait_for_gang
    assert not hasattr(other, "_wait_for_mapper_tasks")

    looks: list[str] = []

    def look(path: str) -> Any:
        looks.append(path)
        if len(looks) == 1:
            raise LookupError("not known yet")
        return SimpleNamespace(finished_at=None if len(looks) == 3 else 1)

    monkeypatch.setattr(step_decorator.time, "sleep", lambda _: None)
    monkeypatch.setattr(metaflow, "Task", look)
    flow = SimpleNamespace(name="F", _control_mapper_tasks=["r/s/t", "r/s/t-node-1"])
    assert wait_for_gang(flow, "s") is True
    assert looks == ["F/r/s/t", "F/r/s/t", "F/r/s/t-node-1", "F/r/s/t", "F/r/s/t-node-1"]
    with pytest.raises(TimeoutError, match="did not finish in -1 seconds"):
        wait_for_gang(flow, "s", -1)
