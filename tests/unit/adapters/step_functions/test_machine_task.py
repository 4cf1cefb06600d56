"""What a job reads of its place and of the input of the execution, and what it tells the state machine."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import Any

import pytest

from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task.machine_task import (
    choose,
    depart,
    read_input,
)

DOCUMENT: dict[str, Any] = {
    "flow_name": "Flow",
    "parameters": ["alpha", "text"],
    "required": [],
    "mappings": [
        {"event": "data", "of_run": False, "parameters": [["alpha", "size"]], "all_needed": True},
        {"event": "loose", "of_run": False, "parameters": [["text", "text"]], "all_needed": False},
    ],
}


def event(name: str, **detail: Any) -> dict[str, Any]:
    return {"detail-type": name, "source": "metaflow", "id": "1", "time": "2026-11-25T10:00:00Z", "detail": detail}


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ({}, {}),
        ({"Parameters": None, "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID": "arn"}, {}),
        ({"Parameters": {"alpha": 1, "text": "x"}}, {"alpha": "1", "text": "x"}),
        ({"Parameters": '{"alpha": 12345678901234567890}'}, {"alpha": "12345678901234567890"}),
        ({"Parameters": {"alpha": None}}, {}),
        ({"Parameters": {"text": {"a": [1]}}}, {"text": '{"a": [1]}'}),
        (event("data", size=3), {"alpha": "3"}),
        ({"Events": [event("data", size=3), event("loose")]}, {"alpha": "3"}),
        ({"Events": [event("data", size=3)], "Parameters": {"alpha": 4}}, {"alpha": "4"}),
    ],
)
def test_parameters_come_as_text(given: Any, values: dict[str, str]) -> None:
    assert read_input(given, DOCUMENT)[0] == values


def test_the_events_of_a_run_are_kept_for_all_its_tasks() -> None:
    detail = {"stateMachineArn": "arn:aws:states:r:1:stateMachine:p.prod.Other", "name": "x1", "status": "SUCCEEDED"}
    of_run = {"detail-type": "Step Functions Execution Status Change", "source": "aws.states", "detail": detail}
    _, record = read_input({"Events": [event("data", size=1, id="e1", timestamp=7), of_run]}, DOCUMENT)
    assert record["events"] == [
        {"timestamp": 7, "id": "e1", "name": "data", "type": "event"},
        {"timestamp": None, "id": "Other/sfn-x1/end", "name": "metaflow.p.prod.Other.end", "type": "run"},
    ]
    assert read_input({"Origin": "sfn-a:end"}, DOCUMENT)[1] == {"origin": "sfn-a:end", "events": []}


@pytest.mark.parametrize(
    ("given", "changed", "told"),
    [
        ({"Parameters": {"colour": 1}}, {}, "no parameter 'colour'. Parameters are: alpha, text."),
        ({"alpha": 1}, {}, "holds 'alpha'"),
        ([], {}, "holds 'list'"),
        (event("data"), {}, "has no field 'size'"),
        ({}, {"required": ["alpha"]}, "needs a value for its parameter 'alpha'"),
    ],
)
def test_a_wrong_input_ends_the_job_with_the_reason(given: Any, changed: dict[str, Any], told: str) -> None:
    with pytest.raises(SystemExit) as ended:
        read_input(given, {**DOCUMENT, **changed})
    assert told in str(ended.value)


class Storage:
    """A datastore in memory."""

    def __init__(self) -> None:
        self.saved: dict[str, Any] = {}

    def save_bytes(self, content: Any, overwrite: bool = False) -> None:
        assert overwrite
        for path, data in content:
            self.saved[path] = json.loads(data.read())


class Results:
    """In the place of ``task_results``."""

    def __init__(self) -> None:
        self.storage = Storage()

    def flow_datastore(self, _: Any) -> Any:
        return SimpleNamespace(_storage_impl=self.storage)


@pytest.mark.parametrize(
    ("document", "status", "outcome", "exit_status", "saved"),
    [
        ({"reports": "splits"}, 0, {"num_splits": 3}, 0, {"at/start": {"reported": 3, "iteration": 0}}),
        ({"reports": "next"}, 0, {"next": ["a"]}, 0, {"at/start": {"reported": "a", "iteration": 0}}),
        ({"reports": "nodes"}, 0, {"num_parallel": 4}, 0, {"at/start": {"reported": 4, "iteration": 0}}),
        ({}, 0, {"next": ["a"]}, 0, {}),
        ({"reports": "splits"}, 1, None, 1, {}),
        ({}, 202, None, 202, {"at/start.final": {"status": 202}}),
        # An array has 10,000 children at most; a map may have more.
        ({"reports": "splits", "is_array": True}, 0, {"num_splits": 10_001}, 1, {}),
        ({"reports": "splits"}, 0, {"num_splits": 10_001}, 0, {"at/start": {"reported": 10_001, "iteration": 0}}),
    ],
)
def test_a_job_tells_the_machine_how_its_task_ended(
    document: dict[str, Any], status: int, outcome: Any, exit_status: int, saved: dict[str, Any]
) -> None:
    results = Results()
    given = {"at": "at", "step": "start", **document}
    assert depart(given, results, status, outcome) == exit_status
    assert results.storage.saved == saved


def placed(monkeypatch: pytest.MonkeyPatch, place: str, step: dict[str, Any], **variables: str) -> dict[str, str]:
    """Choose a step's document; return the variables that it leads to."""
    for name in ("RUN", "PLACE", "TRY", "NODES", "GANG"):
        monkeypatch.setenv(f"METAFLOW_ORCHESTRATOR_{name}", "")
    for name, value in {"METAFLOW_PLACE": place, **variables}.items():
        monkeypatch.setenv(name, value)
    document = {"folder": "mf.sfn/Flow", "deployment": "Flow", "env": {}, "each": {"body": step}}
    found = choose(document)
    names = ("RUN", "PLACE", "TRY", "NODES", "GANG")
    return {"at": found["at"], **{name: os.environ[f"METAFLOW_ORCHESTRATOR_{name}"] for name in names}}


def test_a_place_is_read_from_one_word(monkeypatch: pytest.MonkeyPatch) -> None:
    assert placed(monkeypatch, "body/sfn-x/t-3-0-/2", {}) == {
        "at": "mf.sfn/Flow/sfn-x/t-3-0-", "RUN": "sfn-x", "PLACE": "3-0", "TRY": "2", "NODES": "", "GANG": "",
    }  # fmt: skip


def test_a_child_of_an_array_adds_its_index_and_waits_before_another_try(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    child = {"AWS_BATCH_JOB_ARRAY_INDEX": "7", "AWS_BATCH_JOB_ATTEMPT": "1"}
    found = placed(monkeypatch, "body/sfn-x/t-3-", {"delay": 90}, **child)
    assert (found["PLACE"], found["TRY"], found["at"], waited) == ("3-7", "0", "mf.sfn/Flow/sfn-x/t-3-7-", [])
    found = placed(monkeypatch, "body/sfn-x/t-3-", {"delay": 90}, **{**child, "AWS_BATCH_JOB_ATTEMPT": "3"})
    assert (found["TRY"], waited) == ("2", [90])


def test_the_nodes_of_a_gang_share_the_name_of_their_job(monkeypatch: pytest.MonkeyPatch) -> None:
    node = {"AWS_BATCH_JOB_NUM_NODES": "3", "AWS_BATCH_JOB_ID": "job-1#2"}
    found = placed(monkeypatch, "body/sfn-x/t-/1", {"is_gang": True}, **node)
    assert (found["NODES"], found["GANG"], found["TRY"], found["PLACE"]) == ("3", "job-1", "1", "")
