"""Which events a flow waits for and which its steps emit: names and payloads, free of Airflow."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict
from urllib.parse import quote, unquote

import msgspec

from airflow_provider_metaflow.formats import ParamValues
from metaflow_orchestration.exceptions import ParameterValueError
from metaflow_orchestration.graph.model import EventTrigger, FlowGraph

log = logging.getLogger(__name__)

_MADE_BY_METAFLOW = "auto-generated-by-metaflow"
"""Field that distinguishes the events of runs from those of users; the name is that of Metaflow's Argo deployer."""

_MAX_TRIGGER_BYTES = 32 * 1024
_MAX_ID_CHARACTERS = 256
"""Ids come from whoever publishes an event, and distinguish events for a reader."""

_YEAR_10000 = 253402300800
"""In seconds since 1970; Python's datetime ends there, and with it Metaflow's triggers."""

ASSET_GROUP = "metaflow"
"""Group of all assets that stand for events, by which Airflow's list of assets can be filtered."""

SCHEME = "x-metaflow-event://"
"""Airflow takes a URI with ``x-`` as it is. For any other scheme it loads the asset handlers of all providers, which
took 0.3 s of each parse where the amazon provider is installed (measured on 3.3.2)."""


Payload = dict[str, Any]
"""The fields of an event, which whoever publishes it chooses: JSON types."""


class TriggerFacts(TypedDict):
    """One event as ``current.trigger`` is made of it; the fields are those of ``metaflow.events.MetaflowEvent``."""

    timestamp: int
    id: str
    name: str
    type: str


class ReceivedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event that a run was started by.

    :param name: its name.
    :param payload: its fields.
    :param timestamp: when it came, in seconds since 1970.
    """

    name: str
    payload: Mapping[str, Any]
    timestamp: float


def asset_name(event: str) -> str:
    """Return the name of the Airflow asset that stands for an event, which is its URI, too.

    :param event: name of the event; what a URI would give a meaning of its own is escaped.
    """
    return f"{SCHEME}{quote(event, safe='')}"


def make_payload(event: str, payload: Mapping[str, Any] | None = None) -> Payload:
    """Return a payload with the fields that Metaflow gives to every event: its name, an id, and the time.

    :param event: name of the event.
    :param payload: fields of one's own.
    """
    return {"name": event, "id": str(uuid.uuid4()), "timestamp": int(time.time()), **(payload or {})}


def watched_name(event: str, dag_id: str) -> str:
    """Return the name of the asset that the watchers of one DAG stand at.

    Airflow gives an asset the watchers of that DAG file which it parsed last (measured on 3.3.2), so watchers at the
    event's own asset would come and go with every DAG that names the event.

    :param event: name of the event.
    :param dag_id: the DAG.
    """
    return f"{asset_name(event)}/watched-by/{dag_id}"


def event_of(name: str) -> str | None:
    """Return the event that an asset stands for, None if it stands for none.

    :param name: name of the asset.
    """
    return unquote(name.removeprefix(SCHEME).split("/", 1)[0]) if name.startswith(SCHEME) else None


def step_payload(graph: FlowGraph, step: str, run_id: str, task_ids: Sequence[str]) -> Payload:
    """Return the payload of such an event.

    :param graph: the flow.
    :param step: the step.
    :param run_id: Metaflow run id.
    :param task_ids: the tasks that ended; several where one task instance runs several.
    """
    pathspec = f"{graph.name}/{run_id}/{step}/{task_ids[0]}"
    payload: Payload = {
        "id": pathspec,
        "pathspec": pathspec,
        "flow_name": graph.name,
        "run_id": run_id,
        "step_name": step,
        "task_id": task_ids[0],
        _MADE_BY_METAFLOW: True,
    }
    if len(task_ids) > 1:
        payload["task_ids"] = list(task_ids)
    if graph.project is not None:
        project = graph.project
        payload.update(
            project_name=project.name,
            branch_name=project.branch,
            is_user_branch=project.branch.startswith("user."),
            is_production=project.production,
            project_flow_name=project.flow_name,
        )
    return payload


def read_payload(extra: Mapping[str, Any]) -> Payload:
    """Return the payload that an asset event carries.

    What an ``AssetWatcher`` has seen stands under ``payload``, as its trigger gave it: an object, a JSON text, or a
    message whose ``data``, ``body`` or ``value`` is a JSON text.

    :param extra: ``extra`` of the asset event.
    """
    if not extra.get("from_trigger"):
        return dict(extra)
    payload = extra.get("payload")
    found = _as_object(payload)
    for field in ("data", "body", "Body", "value"):
        inner = _as_object(found.get(field)) if found else None
        if inner:
            return inner
    return found or {"payload": payload}


def _as_object(value: Any) -> Payload | None:
    if isinstance(value, (str, bytes)):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return dict(value) if isinstance(value, Mapping) else None


def trigger_list(graph: FlowGraph, events: Sequence[ReceivedEvent]) -> list[TriggerFacts]:
    """Return what ``current.trigger`` is made of (``metaflow.events.Trigger``).

    :param graph: the flow.
    :param events: the events that the run was started by.
    """
    of_run = {trigger.event: trigger.of_run for trigger in graph.triggers}
    return [
        {
            "timestamp": _seconds(event),
            "id": str(event.payload.get("id") or f"{event.name}@{event.timestamp:.6f}")[:_MAX_ID_CHARACTERS],
            "name": event.name,
            "type": "run" if of_run.get(event.name, bool(event.payload.get(_MADE_BY_METAFLOW))) else "event",
        }
        for event in events
    ]


def trigger_text(graph: FlowGraph, events: Sequence[ReceivedEvent]) -> str:
    """Return the JSON text of :func:`trigger_list` for the newest event of each name, as Metaflow's deployers give it.

    It is a variable of each process of a task, and Linux starts none with a longer variable than 128 KiB. Airflow hands
    all events to one run that have come since the run before, however many these are.

    :param graph: the flow.
    :param events: the events that the run was started by.
    """
    found: list[TriggerFacts] = []
    size = 2
    for event in reversed(sorted(newest_events(events), key=lambda event: event.timestamp)):  # noqa: C413  (stable)
        (one,) = trigger_list(graph, [event])
        size += len(json.dumps(one)) + 2
        if size > _MAX_TRIGGER_BYTES:
            break
        found.insert(0, one)
    if len(found) < len(events):
        log.info(
            "The run consumed %d events; current.trigger holds the newest ones of %d names.", len(events), len(found)
        )
    return json.dumps(found)


def newest_events(events: Sequence[ReceivedEvent]) -> list[ReceivedEvent]:
    """Return the newest event of each name, in the order in which the names came first.

    :param events: the events.
    """
    found: dict[str, ReceivedEvent] = {}
    for event in events:
        if event.name not in found or found[event.name].timestamp <= event.timestamp:
            found[event.name] = event
    return list(found.values())


def _seconds(event: ReceivedEvent) -> int:
    """Return the time that the publisher gave, if it is one, else that of Airflow."""
    given = event.payload.get("timestamp")
    is_time = isinstance(given, (int, float)) and 0 <= given < _YEAR_10000
    return int(given if is_time else event.timestamp)  # type: ignore[arg-type]


def mapped_values(flow: str, triggers: Sequence[EventTrigger], events: Sequence[ReceivedEvent]) -> ParamValues:
    """Return the parameters' values that the events of a run carry.

    :param flow: name of the flow.
    :param triggers: what it waits for.
    :param events: the events; of several with one name the newest counts.
    :raises ParameterValueError: if the flow maps a field that the payload does not hold.
    """
    newest = {event.name: event for event in newest_events(events)}
    values: ParamValues = {}
    for trigger in triggers:
        event = newest.get(trigger.event)
        if event is not None:
            values.update(_values_of(flow, trigger, event))
    return values


def _values_of(flow: str, trigger: EventTrigger, event: ReceivedEvent) -> Iterator[tuple[str, Any]]:
    for parameter, field in trigger.parameters:
        if field in event.payload:
            yield parameter, event.payload[field]
        elif trigger.all_needed:
            raise ParameterValueError(
                f"the event {event.name!r} has no field {field!r}, which parameter {parameter!r} takes its value from; "
                f"it has {', '.join(sorted(event.payload)) or 'none'}.",
                flow=flow,
                hint="Publish the event with that field, or change the mapping in @trigger.",
            )
