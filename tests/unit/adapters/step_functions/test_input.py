"""The input of an execution, as the first job reads it."""

from __future__ import annotations

from typing import Any

import pytest

from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.machine_task import read_input

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
        ({"Parameters": None}, {}),
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
