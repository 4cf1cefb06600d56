"""Labels and annotations, named as those of Metaflow's own deployer, so that either knows the other's objects."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from metaflow_adapters.documents import described_parameters
from metaflow_orchestration.containers.pods import label_value
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.graph.model import FlowGraph, StepKind

from .references import refuse_references

OWNER = "metaflow/owner"
TOKEN = "metaflow/production_token"  # noqa: S105  (the name of an annotation)
FLOW = "metaflow/flow_name"
PROJECT = "metaflow/project_name"
BRANCH = "metaflow/branch_name"
PARAMETERS = "metaflow/parameters"
MAKER = "metaflow/user"
SENSOR = "metaflow/sensor_name"
SENSOR_NAMESPACE = "metaflow/sensor_namespace"
ORIGIN = "metaflow-origin"
"""Parameter of a resumed run: the run that it clones results from, and steps to run again, with colons between."""

STEP_LABEL = "metaflow/step"
STEP = "metaflow/step_name"
ATTEMPT = "metaflow/attempt"
WORKFLOW_LABEL = "metaflow/argo-workflows-name"
"""Label of gangs and their pods: the workflow that they belong to."""

GRAPH = "metaflow/dag"
_MAX_GRAPH, _MAX_GRAPH_BYTES = 5_000, 64 * 1024
"""Names and bytes of the annotation :data:`GRAPH`: an object has 256 KiB of annotations, and each switch doubles the
names. Where it would be longer it is ``null``, or left out: nothing but Metaflow's interface reads it."""

AUTOMATIC = "auto-set by metaflow. safe to ignore."


def labels_of(name: str) -> dict[str, str]:
    """Return the labels of an object.

    :param name: what it is: ``metaflow-flow``, ``metaflow-run`` or ``metaflow-task``.
    """
    return {"app.kubernetes.io/part-of": "metaflow", "app.kubernetes.io/name": name}


def base_annotations(manifest: Manifest) -> dict[str, str]:
    """Return the annotations that say whose deployment an object belongs to.

    :param manifest: the compiled flow.
    """
    deployment, project = manifest.deployment, manifest.graph.project
    found = {
        TOKEN: deployment.production_token,
        OWNER: deployment.owner,
        MAKER: "argo-workflows",
        FLOW: manifest.graph.name,
    }
    if project is not None:
        found |= {
            PROJECT: project.name,
            BRANCH: project.branch,
            "metaflow/project_flow_name": project.flow_name,
        }
    # Those of workflows and pods stand in templates.
    refuse_references("its deployment", found, flow=manifest.graph.name)
    return found


def run_annotations(manifest: Manifest) -> dict[str, str]:
    """Return the annotations of workflows and pods.

    :param manifest: the compiled flow.
    """
    return {**base_annotations(manifest), "metaflow/run_id": "argo-{{workflow.name}}"}


def step_labels(own: Mapping[str, str], step: str) -> dict[str, str]:
    """Return the labels of a step's pods: legal ones, whatever the step is called.

    :param own: labels of its ``@kubernetes``.
    :param step: name of the step.
    """
    return {**own, STEP_LABEL: label_value(step)}


def step_annotations(own: Mapping[str, str], step: str, retries: int) -> dict[str, str]:
    """Return the annotations of a step's pods, as Metaflow's own deployer writes them.

    :param own: annotations of its ``@kubernetes``.
    :param step: name of the step.
    :param retries: how often Argo tries it again; it counts the tries of those steps only.
    """
    return {**own, STEP: step, ATTEMPT: "{{retries}}" if retries else "0"}


def graph_structure(graph: FlowGraph) -> list[Any] | None:
    """Return the steps of a flow, branches as lists in lists (``FlowGraph.output_steps`` of Metaflow).

    :param graph: the flow.
    :returns: None if there are too many ways through its switches for an annotation.
    """
    end = next(step.name for step in graph.steps if step.kind is StepKind.END)
    left = _MAX_GRAPH

    def block(name: str, until: str) -> list[Any]:
        nonlocal left
        found: list[Any] = []
        while name != until and left > 0:
            left -= 1
            step = graph.step(name)
            found.append(name)
            if step.kind in (StepKind.SPLIT, StepKind.FOREACH):
                name = str(step.closed_by)
                found.append([block(first, name) for first in step.next_steps])
            elif step.kind is StepKind.SWITCH:
                found.append([block(first, until) for first in step.next_steps])
                break
            elif not step.next_steps:
                break
            else:
                (name,) = step.next_steps
        return found

    found = [*(block(graph.start, end) if graph.start != end else ()), end]
    return found if left > 0 else None


def annotations_of(manifest: Manifest, title: str | None, description: str | None) -> dict[str, str]:
    """Return the annotations of a workflow template.

    :param manifest: the compiled flow.
    :param title: title in Argo's user interface.
    :param description: description there.
    """
    graph, found = manifest.graph, base_annotations(manifest)
    if graph.parameters:
        found[PARAMETERS] = json.dumps(described_parameters(graph))
    if manifest.deployment.tags:
        found["metaflow/tags"] = json.dumps(manifest.deployment.tags)
    if graph.schedule is not None:
        cron = {"schedule": graph.schedule.cron, "tz": graph.schedule.timezone or ""}
        found["metaflow/cron"] = json.dumps(cron)
    text = json.dumps({"graph_structure": graph_structure(graph)})
    if len(text) <= _MAX_GRAPH_BYTES:
        found[GRAPH] = text
    found["workflows.argoproj.io/title"] = title or graph.deployed_name
    described = description or graph.doc
    if described:
        found["workflows.argoproj.io/description"] = described
    return found


def notify_secret(name: str) -> str:
    """Return the name of the Kubernetes secret with the addresses and keys of a deployment's endpoints.

    :param name: name of the deployment.
    """
    return f"{name}-notify"
