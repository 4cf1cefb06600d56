"""Draws a flow in the terminal: a line per step, indented by the splits around it."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.graph.model import FlowGraph, Step, StepKind

_SIGNS = {
    StepKind.LINEAR: "●",
    StepKind.SPLIT: "⑂",
    StepKind.FOREACH: "⋔",
    StepKind.PARALLEL: "⫴",
    StepKind.SWITCH: "◇",
    StepKind.JOIN: "⑃",
    StepKind.END: "■",
}


def render(manifest: Manifest) -> RenderableType:
    """Return a drawing of a compiled flow.

    :param manifest: the flow.
    """
    graph = manifest.graph
    head = Text(f"{graph.name}", style="bold")
    head.append(f"  deployed as {manifest.deployment.name} by {manifest.deployment.owner}", style="default")
    table = Table(box=None)
    for column in ("Step", "next steps", "notes"):
        table.add_column(column)
    for step in graph.steps:
        # A join stands beside the split that it closes.
        depth = len(step.splits) - (1 if step.kind is StepKind.JOIN else 0)
        name = Text(f"{'│ ' * depth}{_SIGNS[step.kind]} {step.name}")
        table.add_row(name, Text(_next(step)), Text(", ".join(_notes(graph, step))))
    return Group(head, *map(Text, _about(graph)), table)


def describe(manifest: Manifest) -> dict[str, Any]:
    """Return a compiled flow for ``--json``, without what may be secret: values of environment variables, tokens.

    :param manifest: the flow.
    """
    graph, deployment = manifest.graph, manifest.deployment
    return {
        "flow": graph.name,
        "deployment": deployment.name,
        "owner": deployment.owner,
        "parameters": [
            {"name": one.name, "type": one.type.value, "required": one.required, "default": one.default}
            for one in graph.parameters
        ],
        "schedule": graph.schedule and {"cron": graph.schedule.cron, "timezone": graph.schedule.timezone},
        "triggers": [one.event for one in graph.triggers],
        "exit_hooks": [one.function for one in graph.exit_hooks],
        "steps": [
            {
                "name": step.name,
                "kind": step.kind.value,
                "next": list(step.next_steps),
                "splits": list(step.splits),
                "foreach": step.foreach_artifact,
                "decorators": [one.name for one in step.decorators],
            }
            for step in graph.steps
        ],
    }


def _next(step: Step) -> str:
    if step.kind is StepKind.SWITCH:
        return ", ".join(f"{case.value} → {case.step}" for case in step.cases)
    return ", ".join(step.next_steps)


def _notes(graph: FlowGraph, step: Step) -> list[str]:
    notes = []
    if step.foreach_artifact:
        notes.append(f"for each of {step.foreach_artifact}")
    if step.condition:
        notes.append(f"by {step.condition}")
    if step.recursive:
        notes.append("recursive")
    if step.closes:
        notes.append(f"joins {step.closes}")
    notes.extend(f"@{decorator.name}" for decorator in step.decorators)
    if step.name == graph.start:
        notes.extend(f"after {sensor.name}" for sensor in graph.sensors)
    return notes


def _about(graph: FlowGraph) -> list[str]:
    lines = []
    if graph.parameters:
        lines.append("parameters: " + ", ".join(f"{one.name} ({one.type.value})" for one in graph.parameters))
    if graph.schedule:
        lines.append(f"schedule: {graph.schedule.cron} {graph.schedule.timezone or 'UTC'}")
    if graph.triggers:
        lines.append("waits for: " + " and ".join(trigger.event for trigger in graph.triggers))
    if graph.exit_hooks:
        lines.append("exit hooks: " + ", ".join(hook.function for hook in graph.exit_hooks))
    return lines
