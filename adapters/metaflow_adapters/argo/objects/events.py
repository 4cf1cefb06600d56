"""``@trigger`` and ``@trigger_on_finish`` as a sensor of Argo Events."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypedDict

from metaflow_orchestration.containers.objects import KubernetesObject
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.model import EventTrigger, FlowGraph, ParameterType

from .metadata import AUTOMATIC, base_annotations, labels_of
from .parameters import NULL, default_of
from .spec import Parameter, Spec
from .values import sealing

_MADE_BY_METAFLOW = "auto-generated-by-metaflow"
_PAYLOAD = f"{{{{ $text := toRawJson $.Input.body.payload }}}}{sealing('$text')}"
"""Go template for a payload as JSON; only its name, id and time are read."""

_SENSOR_RESOURCES = {"cpu": "100m", "memory": "250Mi"}


class ExpressionFilter(TypedDict):
    """A filter of an event (Argo Events' API, ExprFilter)."""

    expr: str
    fields: list[dict[str, str]]


class Dependency(TypedDict):
    """An event that a sensor waits for (Argo Events' API, EventDependency)."""

    name: str
    eventName: str | None
    eventSourceName: str | None
    filters: dict[str, list[ExpressionFilter]]


class TriggerParameter(TypedDict):
    """What of an event goes where in an object that a sensor makes (Argo Events' API, TriggerParameter)."""

    src: dict[str, str]
    dest: str


class KubernetesTrigger(TypedDict):
    """Which object a sensor makes (Argo Events' API, StandardK8STrigger)."""

    operation: str
    source: dict[str, KubernetesObject]
    parameters: list[TriggerParameter]


class _Template(TypedDict):
    name: str
    k8s: KubernetesTrigger


class TriggerTemplate(_Template, total=False):
    """What a sensor does (Argo Events' API, TriggerTemplate)."""

    conditionsReset: list[dict[str, dict[str, str]]]


class SensorTrigger(TypedDict):
    """What a sensor does when its events have come (Argo Events' API, Trigger)."""

    template: TriggerTemplate


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSettings:
    """How events come to this installation: Metaflow's ``ARGO_EVENTS_…`` settings.

    :param event: name of Argo Events' event.
    :param source: name of its event source.
    :param account: service account of sensors.
    :param bus: name of the event bus.
    :param namespace: namespace of sensors.
    """

    event: str | None = None
    source: str | None = None
    account: str | None = None
    bus: str = "default"
    namespace: str | None = None


def event_settings() -> EventSettings:
    """Return the settings of Metaflow's configuration."""
    from metaflow import metaflow_config as config

    return EventSettings(
        event=config.ARGO_EVENTS_EVENT,
        source=config.ARGO_EVENTS_EVENT_SOURCE,
        account=config.ARGO_EVENTS_SERVICE_ACCOUNT,
        bus=config.ARGO_EVENTS_EVENT_BUS,
        namespace=config.ARGO_EVENTS_SENSOR_NAMESPACE,
    )


def event_name(event: str) -> str:
    """Return a name for an event that sensors and parameters take, which know no dots.

    :param event: name of the event.
    """
    digest = base64.b32encode(hashlib.sha1(event.encode(), usedforsecurity=False).digest()).decode()[:4].lower()
    return f"{re.sub('[^A-Za-z0-9_]', '', event)}_{digest}"


def event_parameters(graph: FlowGraph) -> Iterator[Spec]:
    """Yield the parameters of a workflow that take the payloads of its events, for ``current.trigger``.

    :param graph: the flow.
    """
    for trigger in graph.triggers:
        yield Parameter(name=event_name(trigger.event), value=NULL, description=AUTOMATIC)


def emit_sensor(manifest: Manifest, namespace: str | None, settings: EventSettings) -> KubernetesObject | None:
    """Return the sensor that starts a flow, None if it waits for no events.

    As plain data: Hera's model of a sensor has no ``kind``, and loses the workflow that the sensor makes (Hera 7.1).

    :param manifest: the compiled flow.
    :param namespace: Kubernetes namespace of the workflows.
    :param settings: how events come to this installation.
    :raises InvalidOptionError: if the installation says nothing of events.
    """
    graph = manifest.graph
    if not graph.triggers:
        return None
    _check(graph, settings)
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Sensor",
        "metadata": {
            "name": manifest.deployment.name.replace(".", "-"),
            "namespace": settings.namespace or namespace,
            "labels": labels_of("metaflow-sensor"),
            "annotations": base_annotations(manifest),
        },
        "spec": {
            "replicas": 1,
            "eventBusName": settings.bus,
            "template": {
                "serviceAccountName": settings.account,
                "metadata": {"labels": labels_of("metaflow-sensor"), "annotations": base_annotations(manifest)},
                "container": {
                    "name": "main",
                    "resources": {"requests": _SENSOR_RESOURCES, "limits": _SENSOR_RESOURCES},
                },
            },
            "dependencies": [_dependency(graph, trigger, settings) for trigger in graph.triggers],
            "triggers": [_trigger(manifest, namespace)],
        },
    }


def _check(graph: FlowGraph, settings: EventSettings) -> None:
    needed = {"EVENT": settings.event, "EVENT_SOURCE": settings.source, "SERVICE_ACCOUNT": settings.account}
    missing = [f"METAFLOW_ARGO_EVENTS_{name}" for name, value in needed.items() if not value]
    if missing:
        raise InvalidOptionError(
            f"it waits for events, and {missing[0]} is not set.",
            flow=graph.name,
            hint="Set it, or run `metaflow configure kubernetes`; see argoproj.github.io/argo-events.",
        )


def _dependency(graph: FlowGraph, trigger: EventTrigger, settings: EventSettings) -> Dependency:
    required = {one.name for one in graph.parameters if one.required}
    expressions = [_expression(f"name == {_literal(trigger.event)}", "name", "name")]
    expressions += [
        # The path must be there.
        _expression("true == true", "field", field)
        for parameter, field in trigger.parameters
        if parameter in required
    ]
    if trigger.of_run:
        # Metaflow's client makes text of what it adds to a payload.
        expressions.append(_expression("field == 'True'", "field", _MADE_BY_METAFLOW))
    return {
        "name": event_name(trigger.event),
        "eventName": settings.event,
        "eventSourceName": settings.source,
        "filters": {"exprs": expressions},
    }


def _expression(text: str, name: str, path: str) -> ExpressionFilter:
    return {"expr": text, "fields": [{"name": name, "path": f"body.payload.{_escaped(path)}"}]}


def _literal(text: str) -> str:
    """Return a text as a literal of Argo Events' expressions."""
    is_plain = text.isascii() and text.isprintable() and "'" not in text and "\\" not in text
    return f"'{text}'" if is_plain else json.dumps(text)


def _escaped(field: str) -> str:
    """Return the name of a field as one part of a path, as ``Escape`` of tidwall/gjson does it."""
    return re.sub(r"[^\w:\s\x7f-\U0010ffff-]", lambda found: f"\\{found[0]}", field, flags=re.ASCII)


def _trigger(manifest: Manifest, namespace: str | None) -> SensorTrigger:
    graph, name = manifest.graph, manifest.deployment.name
    reset = graph.trigger_reset
    events = [{"name": one.event, "type": "run" if one.of_run else "event"} for one in graph.triggers]
    workflow = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {
            "generateName": f"{name}-",
            "namespace": namespace,
            "annotations": {"metaflow/triggered_by": json.dumps(events)},
        },
        "spec": {
            "workflowTemplateRef": {"name": name},
            "arguments": {"parameters": list(_arguments(graph))},
        },
    }
    found: SensorTrigger = {
        "template": {
            "name": name,
            "k8s": {
                "operation": "create",
                "source": {"resource": workflow},
                "parameters": [*_mapped(graph), *_payloads(graph)],
            },
        }
    }
    if reset is not None:
        by_time = {"cron": reset.cron, **({"timezone": reset.timezone} if reset.timezone else {})}
        found["template"]["conditionsReset"] = [{"byTime": by_time}]
    return found


def _arguments(graph: FlowGraph) -> Iterator[dict[str, str]]:
    for one in graph.parameters:
        yield {"name": one.name, "value": default_of(one)}
    for trigger in graph.triggers:
        yield {"name": event_name(trigger.event), "value": NULL}


def _mapped(graph: FlowGraph) -> Iterator[TriggerParameter]:
    by_name = {one.name: one for one in graph.parameters}
    for trigger in graph.triggers:
        for parameter, field in trigger.parameters:
            yield {
                "src": {
                    "dependencyName": event_name(trigger.event),
                    "dataTemplate": _field(field, by_name[parameter].type),
                    # Taken where the payload lacks the field.
                    "value": default_of(by_name[parameter]),
                },
                "dest": f"spec.arguments.parameters.#(name={parameter}).value",
            }


def _field(field: str, kind: ParameterType) -> str:
    """Return a Go template for the text of a field: of JSON its text, of others the value itself."""
    # JSON's escapes are Go's, too, but for those of characters beyond the first plane.
    name = json.dumps(field, ensure_ascii=False)
    value = f"(get $.Input.body.payload {name})"
    text = (
        f'{{{{ $text := "" }}}}{{{{ if kindIs "string" {value} }}}}{{{{ $text = {value} }}}}'
        f"{{{{ else }}}}{{{{ $text = toRawJson {value} }}}}{{{{ end }}}}{sealing('$text')}"
    )
    if kind is ParameterType.BOOL:
        text = (
            f'{{{{ if kindIs "bool" {value} }}}}{{{{ {value} | toString | title }}}}{{{{ else }}}}{text}{{{{ end }}}}'
        )
    return f'{{{{ if (hasKey $.Input.body.payload {name}) }}}}{text}{{{{ else }}}}{{{{ fail "absent" }}}}{{{{ end }}}}'


def _payloads(graph: FlowGraph) -> Iterator[TriggerParameter]:
    for trigger in graph.triggers:
        name = event_name(trigger.event)
        yield {
            "src": {"dependencyName": name, "dataTemplate": _PAYLOAD, "value": NULL},
            "dest": f"spec.arguments.parameters.#(name={name}).value",
        }
