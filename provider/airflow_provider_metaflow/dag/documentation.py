"""The documentation of a DAG as Airflow shows it: what the flow does, its parameters, its owner and its code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.graph.model import FlowGraph, Parameter, ParameterType

_MAX_DEFAULT = 60
_SHORT_COMMIT = 10


def dag_documentation(manifest: Manifest) -> str:
    """Return the documentation of a DAG as Markdown.

    :param manifest: the compiled flow.
    """
    graph = manifest.graph
    parts = [f"### {graph.name}", graph.doc.strip(), _parameters(graph), "\n".join(_facts(manifest))]
    return "\n\n".join(part for part in parts if part)


def filled_by_events(graph: FlowGraph, parameter: str) -> str:
    """Return which fields of which events a parameter can take its value from; empty if none can fill it.

    :param graph: the flow.
    :param parameter: name of the parameter.
    """
    fields = [
        f"field {field} of the event {trigger.event}"
        for trigger in graph.triggers
        for name, field in trigger.parameters
        if name == parameter
    ]
    return " or ".join(fields)


def _parameters(graph: FlowGraph) -> str:
    if not graph.parameters:
        return ""
    rows = [(_code(one.name), one.type.value, _default(graph, one), _cell(one.help)) for one in graph.parameters]
    lines = ["| Parameter | Type | Default | Meaning |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _default(graph: FlowGraph, parameter: Parameter) -> str:
    if parameter.required:
        events = filled_by_events(graph, parameter.name)
        return _cell(f"required, unless filled by the {events}") if events else "required"
    if parameter.default is None:
        return "none"
    if parameter.type is ParameterType.FILE:
        return "a file"
    text = parameter.default
    return _code(text if len(text) <= _MAX_DEFAULT else f"{text[:_MAX_DEFAULT]}…") if text else "empty"


def _facts(manifest: Manifest) -> Iterator[str]:
    graph, deployment = manifest.graph, manifest.deployment
    yield f"- **Owner**: {_cell(deployment.owner)}"
    if graph.project:
        yield f"- **Project**: {_cell(graph.project.name)}, branch {_cell(graph.project.branch)}"
    if graph.triggers:
        yield f"- **Starts on the events**: {', '.join(_code(one.event) for one in graph.triggers)}"
    yield f"- **Code**: {_version(manifest)}"


def _version(manifest: Manifest) -> str:
    """Return which code runs: the Git commit that was deployed, if the flow file stands in a repository."""
    known = _environment(manifest)
    file = _code(manifest.code.flow_file)
    metaflow = known.get("metaflow_version")
    packaged = f", packaged by Metaflow {_cell(metaflow)}" if isinstance(metaflow, str) else ""
    commit, branch = known.get("commit_sha"), known.get("branch_name")
    if not isinstance(commit, str):
        return f"{file}{packaged}"
    of_branch = f" of branch {_code(branch)}" if isinstance(branch, str) else ""
    changed = " with uncommitted changes" if known.get("has_uncommitted_changes") else ""
    return f"{file}, Git commit {_code(commit[:_SHORT_COMMIT])}{of_branch}{changed}{packaged}"


def _environment(manifest: Manifest) -> dict[str, Any]:
    """Return what Metaflow noted of the environment of the deployment."""
    try:
        found = json.loads(manifest.command.environment.get("METAFLOW_VERSION") or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _cell(text: str) -> str:
    """Return a text for a cell of a table: one line, in which nothing is taken for Markdown's own marks."""
    return re.sub(r"([\\`*_{}\[\]<>|])", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    """Return a text as code on one line; a fence of backticks is longer than any in the text."""
    line = " ".join(text.split()).replace("|", "\\|")
    fence = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    edge = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{edge}{line}{edge}{fence}"
