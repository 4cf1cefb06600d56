"""Flows that wait for events, on a real Argo Events: published by Metaflow's client and by the end of another run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.argo import Argo, Workflow
from tests.support.argo_events import argo_events, publish, wait_for_sensor
from tests.support.kubernetes import HOST
from tests.support.metadata_service import metadata_service

pytestmark = [pytest.mark.scheduler, pytest.mark.kubernetes, pytest.mark.extended]

TEXT = 'it\'s "quoted" $HOME {{workflow.name}} {{ .Input }} `id`\nsecond line, grün'


@pytest.fixture(scope="module")
def waiting(argo: Argo, flows: Path) -> Iterator[Argo]:
    """Argo with the flows that wait for events, and their sensors awake."""
    # `current.trigger.run` asks it for the run that a flow has followed.
    with metadata_service("", HOST) as service, argo_events(argo) as eventful:
        eventful.environment.update(METAFLOW_DEFAULT_METADATA="service", METAFLOW_SERVICE_URL=service.url)
        for name in ("upstream", "on_finish", "on_event", "on_both"):
            eventful.create(flows / "events" / f"{name}.py", name=name.replace("_", "-"))
        for name in ("on-finish", "on-event", "on-both"):
            wait_for_sensor(eventful, name)
        yield eventful


def started(argo: Argo, template: str) -> list[str]:
    """The workflows of a template, the oldest first."""
    found = [
        one["metadata"]
        for one in argo.cluster.get("workflows")
        if one["spec"]["workflowTemplateRef"]["name"] == template
    ]
    return [one["name"] for one in sorted(found, key=lambda one: str(one["creationTimestamp"]))]


def first_run(argo: Argo, template: str, flow: str) -> Workflow:
    argo.wait_until(lambda: started(argo, template), timeout=60)
    run = Workflow(argo, flow, started(argo, template)[0])
    run.wait()
    return run


def test_a_payload_becomes_parameters_of_the_run_and_the_event_is_known_to_it(waiting: Argo) -> None:
    payload = {"size": 0.5, "text": TEXT, "table": {"a": [1, "b", None]}}
    sent = publish(waiting, "tests.OnEventFlow", json.dumps(payload))
    start = first_run(waiting, "on-event", "OnEventFlow").artifacts()["start"][((), ())]
    assert start["seen"] == (0.5, TEXT, {"a": [1, "b", None]}, 5)
    assert start["event"][:2] == ("tests.OnEventFlow", sent)


def test_a_flow_of_two_events_waits_for_both(waiting: Argo) -> None:
    publish(waiting, "tests.one", json.dumps({"first": "1"}))
    # An event that came later has already started its flow.
    before = len(started(waiting, "on-event"))
    publish(waiting, "tests.OnEventFlow", json.dumps({"size": 1}))
    waiting.wait_until(lambda: len(started(waiting, "on-event")) > before)
    assert started(waiting, "on-both") == []
    publish(waiting, "tests.two", json.dumps({"b": "2"}))
    start = first_run(waiting, "on-both", "OnBothFlow").artifacts()["start"][((), ())]
    assert start["seen"] == ("1", "2")
    assert start["names"] == ["tests.one", "tests.two"]


def test_a_flow_starts_when_another_has_finished_and_sees_its_run(waiting: Argo) -> None:
    upstream = waiting.start("upstream", "UpstreamFlow", {"value": "7"})
    upstream.wait()
    run = first_run(waiting, "on-finish", "OnFinishFlow")
    start = run.artifacts()["start"][((), ())]
    assert start["upstream"] == f"UpstreamFlow/{upstream.run_id}"
    assert start["result"] == 70
    assert [event[:2] for event in start["seen"]] == [("metaflow.UpstreamFlow.end", "run")]
    assert run.artifacts()["end"][((), ())]["still"] == start["upstream"]
