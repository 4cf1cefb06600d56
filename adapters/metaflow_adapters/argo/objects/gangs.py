"""A ``@parallel`` step: a resource template that makes a JobSet or an Indexed Job, whose pods are the nodes.

The nodes find each other through the datastore, where the control node leaves its address (``placed_task.py``): no
service is needed.
"""

from __future__ import annotations

import re

from metaflow_adapters.argo.options import JOB, JOBSET
from metaflow_adapters.argo.plan.flow import NODES, StepPlan
from metaflow_orchestration.containers.gang import JOB_LABEL
from metaflow_orchestration.containers.objects import KubernetesObject

from .containers import EnvVar, SharedContainer, StepContainer
from .metadata import WORKFLOW_LABEL, step_annotations, step_labels
from .references import whole_number
from .spec import Parameter, Resource, Spec
from .templates import retry_of

GANGS = (JOBSET, JOB)

_NODES = whole_number(f"inputs.parameters.{NODES}")
"""A container has written it."""

_NAME = '{{=sprig.trimSuffix("-", sprig.trunc(40, sprig.replace(".", "-", workflow.name)))}}-'
"""Kubernetes adds five characters. The names of a JobSet's jobs and pods have 63, and no dots (RFC 1035)."""

_KEEP_SECONDS = 7 * 24 * 60 * 60
"""Metaflow's ``KUBERNETES_JOB_TTL_SECONDS_AFTER_FINISHED``."""

_OWN = (
    ("METAFLOW_ORCHESTRATOR_GANG", f"metadata.labels['{JOB_LABEL}']"),
    ("METAFLOW_ORCHESTRATOR_ADDRESS", "status.podIP"),
)


def emit_gang(plan: StepPlan, made: StepContainer, shared: SharedContainer, kind: str) -> Spec:
    """Return the template of a gang.

    :param plan: its plan.
    :param made: the container of each node.
    :param shared: command and variables of all steps, which stand in the manifest of its own.
    :param kind: :data:`JOBSET` or :data:`JOB`.
    """
    from .yaml_text import to_yaml

    job = _job(made, shared, plan.step)
    manifest = _jobset(job) if kind == JOBSET else {"apiVersion": "batch/v1", "kind": "Job", **job}
    manifest["metadata"] = {"generateName": _NAME, "labels": {WORKFLOW_LABEL: "{{workflow.name}}"}}
    succeeded, failed = (
        ("status.terminalState == Completed", "status.terminalState == Failed")
        if kind == JOBSET
        else (f"status.succeeded == {_NODES}", "status.failed > 0")
    )
    return Resource(
        name=plan.name,
        inputs=[Parameter(name=name) for name in plan.inputs],
        action="create",
        set_owner_reference=True,
        # Numbers in YAML, which a reference is not before Argo has filled it in.
        manifest=re.sub(
            rf"(completions|parallelism): '{re.escape(_NODES)}'",
            lambda found: f"{found[1]}: {_NODES}",
            to_yaml(manifest),
        ),
        success_condition=succeeded,
        failure_condition=failed,
        service_account_name=made.pod.get("serviceAccountName"),
        labels=step_labels({}, plan.step),
        annotations=step_annotations({}, plan.step, made.retries),
        retry_strategy=retry_of(made),
    )


def _job(made: StepContainer, shared: SharedContainer, step: str) -> KubernetesObject:
    fields: list[EnvVar] = [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in _OWN]
    nodes: EnvVar = {"name": "METAFLOW_ORCHESTRATOR_NODES", "value": _NODES}
    container = {
        "name": "main",
        **shared,
        **made.container,
        "env": [*shared["env"], *made.container["env"], *fields, nodes],
    }
    spec = {key: value for key, value in made.pod.items() if key not in ("metadata", "containers")}
    own = made.pod["metadata"]
    labels = {"app.kubernetes.io/part-of": "metaflow", WORKFLOW_LABEL: "{{workflow.name}}"}
    labels = step_labels({**own.get("labels", {}), **labels}, step)
    notes = {"metaflow/run_id": "argo-{{workflow.name}}"}
    notes = step_annotations({**own.get("annotations", {}), **notes}, step, made.retries)
    return {
        "spec": {
            "completionMode": "Indexed",
            "completions": _NODES,
            "parallelism": _NODES,
            # Argo retries the gang as a whole.
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": _KEEP_SECONDS,
            "template": {
                "metadata": {"labels": labels, "annotations": notes},
                "spec": {**spec, "containers": [container]},
            },
        }
    }


def _jobset(job: KubernetesObject) -> KubernetesObject:
    spec = dict(job["spec"])
    keep = spec.pop("ttlSecondsAfterFinished")
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "spec": {
            "ttlSecondsAfterFinished": keep,
            "failurePolicy": {"maxRestarts": 0},
            "replicatedJobs": [{"name": "node", "replicas": 1, "template": {"spec": spec}}],
        },
    }
