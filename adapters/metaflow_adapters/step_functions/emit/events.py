"""``@trigger`` and ``@trigger_on_finish`` as rules of EventBridge, and events of one's own."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from typing import Any

from metaflow_adapters.step_functions.plan.names import prefixed, project_name
from metaflow_adapters.step_functions.settings import Place
from metaflow_orchestration.graph.model import EventTrigger, FlowGraph

from .resources import EventPattern

SOURCE = "metaflow"
"""Source of events that people publish."""

STATUS_CHANGE = "Step Functions Execution Status Change"
"""Detail type of the events that AWS sends when an execution changes its status."""


def publish_event(name: str, payload: Mapping[str, Any] | None = None, *, client: Any = None) -> str:
    """Publish an event that flows wait for by ``@trigger(event=…)``, and return its id.

    ```python
    from metaflow_adapters.step_functions import publish_event

    publish_event("data-ready", {"day": "2026-01-31"})
    ```

    New in version 0.1.0.

    :param name: name of the event.
    :param payload: its fields, JSON types.
    :param client: boto3's client of EventBridge; one of the environment if left out.
    :raises RuntimeError: if EventBridge does not take it.
    """
    if client is None:
        import boto3

        client = boto3.client("events")
    detail = {"name": name, "id": str(uuid.uuid4()), "timestamp": int(time.time()), **(payload or {})}
    entry = {"Source": SOURCE, "DetailType": name, "Detail": json.dumps(detail)}
    answer = client.put_events(Entries=[entry])
    if answer.get("FailedEntryCount"):
        raise RuntimeError(f"EventBridge did not take the event {name!r}: {answer['Entries'][0]}")
    return str(detail["id"])


def finished_machine(trigger: EventTrigger, prefix: str | None) -> str:
    """Return the name of the state machine whose runs an event is about.

    :param trigger: the event ``metaflow.[project.branch.]Flow.end``.
    :param prefix: prefix of the installation's state machines.
    """
    full = prefixed(trigger.event.removeprefix("metaflow.").removesuffix(".end"), prefix)
    return project_name(full) if "." in full else full


def pattern_of(trigger: EventTrigger, place: Place, prefix: str | None) -> EventPattern:
    """Return the pattern of a rule for an event.

    :param trigger: the event.
    :param place: where in AWS.
    :param prefix: prefix of the installation's state machines.
    """
    if not trigger.of_run:
        return {"source": [SOURCE], "detail-type": [trigger.event]}
    return status_pattern(place.machine(finished_machine(trigger, prefix)), ["SUCCEEDED"])


def status_pattern(machine_arn: str, statuses: list[str]) -> EventPattern:
    """Return the pattern of a rule for runs that end.

    :param machine_arn: their state machine.
    :param statuses: how they end.
    """
    return {
        "source": ["aws.states"],
        "detail-type": [STATUS_CHANGE],
        "detail": {"status": statuses, "stateMachineArn": [machine_arn]},
    }


def needs_gate(graph: FlowGraph) -> bool:
    """Tell whether events must be gathered before a run starts.

    :param graph: the flow.
    """
    return len(graph.triggers) > 1 or graph.trigger_reset is not None
