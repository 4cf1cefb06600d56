"""Labels and annotations, named as those of Metaflow's own deployer, so that either knows the other's objects."""

from __future__ import annotations

import json

from airflow_provider_metaflow.flow.manifest import Manifest
from metaflow_adapters.documents import described_parameters

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
"""Parameter of a resumed run: the run that it takes over results from, and steps to run anew, with colons between."""

AUTOMATIC = "auto-set by metaflow. safe to ignore."


def labels_of(name: str) -> dict[str, str]:
    """Return the labels of an object.

    :param name: what it is: ``metaflow-flow``, ``metaflow-run`` or ``metaflow-task``.
    """
    return {"app.kubernetes.io/part-of": "metaflow", "app.kubernetes.io/name": name}


def base_annotations(manifest: Manifest) -> dict[str, str]:
    """Return what tells whose deployment an object belongs to.

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
