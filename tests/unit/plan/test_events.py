"""Names and payloads of events, and what a run takes from those that started it."""

from __future__ import annotations

import json

import pytest

from airflow_provider_metaflow.plan.events import (
    ReceivedEvent,
    make_payload,
    mapped_values,
    read_payload,
    step_payload,
    trigger_list,
)
from metaflow_orchestration.exceptions import ParameterValueError
from metaflow_orchestration.graph.model import EventTrigger, FlowGraph, Project, Step, StepKind
from metaflow_orchestration.graph.naming import emitted_events

START = Step(name="start", kind=StepKind.LINEAR, next_steps=("finish",))
FINISH = Step(name="finish", kind=StepKind.END, parents=("start",))
PROJECT = Project(name="p", branch="test.x", production=False, flow_name="p.test.x.F")


def graph(*triggers: EventTrigger, project: Project | None = None) -> FlowGraph:
    return FlowGraph(name="F", start="start", end="finish", steps=(START, FINISH), triggers=triggers, project=project)


def event(name: str, timestamp: float = 1.0, /, **payload: object) -> ReceivedEvent:
    return ReceivedEvent(name=name, payload=payload, timestamp=timestamp)


def test_the_end_of_a_run_is_told_under_the_name_end_whatever_the_step_is_called() -> None:
    assert emitted_events(graph(), START) == ("metaflow.F.start",)
    assert emitted_events(graph(), FINISH) == ("metaflow.F.finish", "metaflow.F.end")


def test_the_events_of_a_project_carry_its_branch() -> None:
    assert emitted_events(graph(project=PROJECT), START) == ("metaflow.p.test.x.F.start",)
    payload = step_payload(graph(project=PROJECT), "start", "r", ["t"])
    assert payload["pathspec"] == "F/r/start/t"
    assert (payload["project_name"], payload["branch_name"], payload["is_production"]) == ("p", "test.x", False)
    assert "task_ids" not in payload
    assert step_payload(graph(), "start", "r", ["t-0", "t-1"])["task_ids"] == ["t-0", "t-1"]


@pytest.mark.parametrize(
    ("extra", "payload"),
    [
        ({"a": 1}, {"a": 1}),
        ({"from_trigger": True, "payload": {"a": 1}}, {"a": 1}),
        ({"from_trigger": True, "payload": '{"a": 1}'}, {"a": 1}),
        ({"from_trigger": True, "payload": {"type": "message", "data": '{"a": 1}'}}, {"a": 1}),
        ({"from_trigger": True, "payload": "no json"}, {"payload": "no json"}),
        ({"from_trigger": True, "payload": None}, {"payload": None}),
    ],
)
def test_the_payload_of_a_watcher_is_what_its_message_holds(extra: dict[str, object], payload: object) -> None:
    assert read_payload(extra) == payload


def test_a_mapped_field_becomes_the_value_of_its_parameter_and_the_newest_event_counts() -> None:
    flow = graph(EventTrigger(event="e", parameters=(("alpha", "a"),), all_needed=True))
    events = [event("e", 5.0, a=5), event("e", 2.0, a=2), event("other", a=9)]
    assert mapped_values("F", flow.triggers, events) == {"alpha": 5}


def test_a_missing_field_is_an_error_where_the_flow_maps_it_and_the_default_where_names_are_equal() -> None:
    named = graph(EventTrigger(event="e", parameters=(("alpha", "a"),), all_needed=True))
    with pytest.raises(ParameterValueError, match="flow F: the event 'e' has no field 'a', which parameter 'alpha'"):
        mapped_values("F", named.triggers, [event("e", b=1)])
    implied = graph(EventTrigger(event="e", parameters=(("alpha", "alpha"),)))
    assert mapped_values("F", implied.triggers, [event("e", b=1)]) == {}


def test_current_trigger_tells_events_of_runs_from_those_of_users() -> None:
    flow = graph(EventTrigger(event="metaflow.Up.end", of_run=True), EventTrigger(event="e"))
    made = make_payload("e", {"x": 1})
    found = trigger_list(flow, [event("metaflow.Up.end", id="Up/1/end/2"), event("e", 7.5, **made), event("e", 7.5)])
    assert [one["type"] for one in found] == ["run", "event", "event"]
    assert found[0]["id"] == "Up/1/end/2"
    assert (found[1]["id"], found[1]["timestamp"]) == (made["id"], made["timestamp"])
    assert (found[2]["id"], found[2]["timestamp"]) == ("e@7.500000", 7)
    assert json.dumps(found)
