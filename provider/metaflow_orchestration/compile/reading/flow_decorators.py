"""Reads what a flow asks of its scheduler: triggers, exit hooks, and sensors before its start. Imports Metaflow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from metaflow_orchestration.exceptions import FlowCompileError, UnsupportedFeatureError
from metaflow_orchestration.graph.model import EventTrigger, ExitHook, Parameter, Schedule, Sensor, SensorKind

_EVENT_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_PAYLOAD_FIELD = re.compile(r"[A-Za-z0-9_]+")
"""Both as Metaflow's Argo deployer has them (``ArgoWorkflows._process_triggers``), so that a flow fits both."""

_SENSORS = {
    "airflow_external_task_sensor": SensorKind.EXTERNAL_TASK,
    "airflow_s3_key_sensor": SensorKind.S3_KEY,
}
_SENSOR_TASK_ID = re.compile(r"[A-Za-z0-9_.-]{1,250}")


def read_triggers(flow: Any, parameters: Sequence[Parameter]) -> tuple[EventTrigger, ...]:
    """Return the events that a flow waits for; all of them must come.

    :param flow: the flow, as Metaflow's command line holds it.
    :param parameters: its parameters.
    :raises FlowCompileError: if an event or a mapping is wrong.
    :raises UnsupportedFeatureError: if both kinds of triggers are there.
    """
    on_event, on_finish = _decorator(flow, "trigger"), _decorator(flow, "trigger_on_finish")
    if on_event is not None and on_finish is not None:
        raise UnsupportedFeatureError(
            "has both @trigger and @trigger_on_finish.",
            flow=flow.name,
            hint="Use one of them; the event of a run's end can be named in @trigger: metaflow.OtherFlow.end.",
        )
    if on_event is not None:
        return _on_event(flow.name, on_event, parameters)
    return tuple(_on_finish(flow.name, on_finish)) if on_finish is not None else ()


def read_trigger_reset(flow: Any) -> Schedule | None:
    """Return when events that have come are forgotten: ``reset_at`` of a trigger's options.

    :param flow: the flow, as Metaflow's command line holds it.
    :raises FlowCompileError: if there are other options, or it has no cron expression.
    """
    for name in ("trigger", "trigger_on_finish"):
        decorator = _decorator(flow, name)
        options = dict(decorator.options or {}) if decorator is not None else {}
        reset = options.pop("reset_at", None)
        if options:
            raise FlowCompileError(
                f"@{name}(options=…) has {', '.join(map(repr, sorted(options)))}, which Metaflow does not know.",
                flow=flow.name,
                hint="Use {'reset_at': {'cron': …, 'timezone': …}}.",
            )
        if reset is not None:
            if not isinstance(reset, dict) or not reset.get("cron"):
                raise FlowCompileError(
                    f"@{name}(options=…) has a `reset_at` without `cron`.",
                    flow=flow.name,
                    hint="Use {'reset_at': {'cron': …, 'timezone': …}}.",
                )
            return Schedule(cron=reset["cron"], timezone=reset.get("timezone"))
    return None


def _decorator(flow: Any, name: str) -> Any:
    found = flow._flow_decorators.get(name)
    return found[0] if found else None


def _on_event(flow: str, decorator: Any, parameters: Sequence[Parameter]) -> tuple[EventTrigger, ...]:
    decorator.format_deploytime_value()
    by_lower = {parameter.name.lower(): parameter.name for parameter in parameters}
    seen: set[str] = set()
    triggers = [_one_event(flow, event, by_lower, seen) for event in decorator.triggers]
    if len(triggers) == 1 and not triggers[0].parameters:
        # The rule of Metaflow's Argo deployer: a single event maps all parameters by equal names.
        names = tuple((name, name) for name in by_lower.values())
        return (EventTrigger(event=triggers[0].event, parameters=names),)
    return tuple(triggers)


def _one_event(flow: str, event: dict[str, Any], by_lower: dict[str, str], seen: set[str]) -> EventTrigger:
    name = event["name"]
    if not _EVENT_NAME.fullmatch(name):
        raise FlowCompileError(
            f"@trigger names the event {name!r}.",
            flow=flow,
            hint="Use letters, digits, underscores, dashes and dots.",
        )
    pairs = []
    for parameter, field in sorted((event.get("parameters") or {}).items()):
        if not _PAYLOAD_FIELD.fullmatch(field):
            raise FlowCompileError(
                f"@trigger maps the field {field!r} of event {name!r}.",
                flow=flow,
                hint="Use letters, digits and underscores.",
            )
        known = by_lower.get(parameter.lower())
        if known is None:
            raise FlowCompileError(
                f"@trigger maps a field of event {name!r} to {parameter!r}, which is no parameter of the flow.",
                flow=flow,
                hint=f"Parameters are: {', '.join(by_lower.values()) or 'none'}.",
            )
        if known in seen:
            raise FlowCompileError(f"@trigger maps parameter {known!r} twice.", flow=flow)
        seen.add(known)
        pairs.append((known, field))
    return EventTrigger(event=name, parameters=tuple(pairs), all_needed=bool(pairs))


def _on_finish(flow: str, decorator: Any) -> Iterator[EventTrigger]:
    from metaflow import current

    decorator.format_deploytime_value()
    for trigger in decorator.triggers:
        project = trigger.get("project") or current.get("project_name")
        branch = trigger.get("branch") or current.get("branch_name")
        if bool(project) != bool(branch):
            raise FlowCompileError(
                f"@trigger_on_finish(flow={trigger['flow']!r}) names a project or a branch only.",
                flow=flow,
                hint="Give both 'project' and 'project_branch', or use @project.",
            )
        name = ".".join(part for part in (project, branch, trigger["flow"]) if part)
        yield EventTrigger(event=f"metaflow.{name}.end", of_run=True)


def read_exit_hooks(flow: Any) -> tuple[ExitHook, ...]:
    """Return the functions that run after a run.

    :param flow: the flow, as Metaflow's command line holds it.
    """
    decorator = _decorator(flow, "exit_hook")
    if decorator is None:
        return ()
    return (
        *(ExitHook(function=name, on_success=True) for name in decorator.success_hooks),
        *(ExitHook(function=name, on_success=False) for name in decorator.error_hooks),
    )


def read_sensors(flow: Any) -> tuple[Sensor, ...]:
    """Return the sensors that stand before the flow, in the order of their decorators.

    :param flow: the flow, as Metaflow's command line holds it.
    :raises FlowCompileError: if two have the same name, or a name is no task id.
    """
    sensors = []
    taken = {node.name for node in flow._graph}
    for kind_name, kind in _SENSORS.items():
        for number, decorator in enumerate(flow._flow_decorators.get(kind_name) or ()):
            name = decorator.attributes["name"] or f"{kind_name.removeprefix('airflow_').replace('_', '-')}-{number}"
            if name in taken or not _SENSOR_TASK_ID.fullmatch(name):
                raise FlowCompileError(
                    f"@{kind_name}(name={name!r}) is no free task id.",
                    flow=flow.name,
                    hint="Give each sensor a name of its own, of letters, digits, dashes, dots and underscores.",
                )
            taken.add(name)
            arguments = {
                key: value.total_seconds() if isinstance(value, timedelta) else value
                for key, value in sorted(decorator.attributes.items())
                if key != "name" and value is not None
            }
            sensors.append(Sensor(kind=kind, name=name, arguments=arguments))
    return tuple(sensors)
