"""How big a flow is on Argo Workflows, and which limits of Kubernetes and Argo that comes near."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from metaflow_adapters.argo.plan.flow import DagPlan, FlowPlan, TaskPlan
from metaflow_orchestration.containers.objects import KubernetesObject
from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.model import FlowGraph

if TYPE_CHECKING:
    from .deployment import ArgoDeployment

MAX_OBJECT_BYTES = 1536 * 1024
"""Largest object that etcd stores (``--max-request-bytes``, etcd's default)."""

MAX_ANNOTATION_BYTES = 256 * 1024
"""All annotations of an object together (``TotalAnnotationSizeLimitB`` of Kubernetes' apimachinery)."""

MAX_WORKFLOW_BYTES = 1024 * 1024
"""Largest workflow without the offloading of node statuses (``MAX_WORKFLOW_SIZE`` of Argo's ``util/file`` and
``persist/sqldb``): bigger ones have their node statuses compressed, and fail if that is not enough."""

MAX_CRON_NAME = 52
"""Longest name of a cron workflow: its workflows have eleven characters more (Argo's ``ValidateCronWorkflow``)."""

_SAMPLES = 400
_DIVIDE = "Divide the flow in two, the second started by @trigger_on_finish."


def size_of(document: Mapping[str, Any]) -> int:
    """Return how many bytes an object has as Kubernetes stores it.

    :param document: the object.
    """
    return len(json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode())


def annotations_size(document: Mapping[str, Any]) -> int:
    """Return how many bytes the annotations of an object have, keys and values.

    :param document: the object.
    """
    notes = document["metadata"].get("annotations") or {}
    return sum(len(key.encode()) + len(value.encode()) for key, value in notes.items())


def check_limits(deployment: ArgoDeployment) -> None:
    """Check what can be known of sizes when a flow is compiled.

    :param deployment: the flow.
    :raises InvalidOptionError: naming the object and the limit.
    """
    flow = deployment.manifest.graph.name
    for document in deployment.to_dicts():
        what = f"the {document['kind']} {document['metadata']['name']!r}"
        size, notes = size_of(document), annotations_size(document)
        if size > MAX_OBJECT_BYTES:
            raise InvalidOptionError(
                f"{what} has {size:,} bytes, and Kubernetes stores {MAX_OBJECT_BYTES:,}.", flow=flow, hint=_DIVIDE
            )
        if notes > MAX_ANNOTATION_BYTES:
            raise InvalidOptionError(
                f"the annotations of {what} have {notes:,} bytes, and Kubernetes takes {MAX_ANNOTATION_BYTES:,}.",
                flow=flow,
                hint="Shorten the descriptions of parameters, the docstring of the flow, or --workflow-description.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """What a run makes.

    :param pods: pods, each tried once.
    :param nodes: nodes in the status of the workflow.
    """

    pods: int
    nodes: int

    def __add__(self, other: Nodes) -> Nodes:
        return Nodes(pods=self.pods + other.pods, nodes=self.nodes + other.nodes)

    def times(self, number: int) -> Nodes:
        """Return what that many of them make.

        :param number: how many.
        """
        return Nodes(pods=number * self.pods, nodes=number * self.nodes)


def nodes_of(plan: FlowPlan, graph: FlowGraph, width: int) -> Nodes:
    """Return what a run makes in which every task runs once, and a recursive switch one round.

    :param plan: the plan of the flow.
    :param graph: the flow.
    :param width: number of splits of each foreach.
    """
    dags = {dag.name: dag for dag in plan.dags}
    retried = {one.name for one in plan.steps if graph.step(one.step).retry.user + graph.step(one.step).retry.error}
    loops = {loop.name: loop.template for loop in plan.loops}

    def of_template(name: str) -> Nodes:
        if name in dags:
            return of_dag(dags[name])
        if name == plan.gate:
            return Nodes(pods=0, nodes=1)
        if name in loops:
            # The steps, a group for each of the two, and the one that is skipped.
            return Nodes(pods=0, nodes=4) + of_template(loops[name])
        # A step that is tried again has a node of its own around its pods.
        return Nodes(pods=1, nodes=2 if name in retried else 1)

    def of_task(task: TaskPlan) -> Nodes:
        one = of_template(task.template)
        return one if task.count is None else Nodes(pods=0, nodes=1) + one.times(width)

    def of_dag(dag: DagPlan) -> Nodes:
        return sum(map(of_task, dag.tasks), Nodes(pods=0, nodes=1))

    return of_dag(dags[plan.entrypoint])


def workflow_size(template: Mapping[str, Any], nodes: int) -> int:
    """Return about how many bytes the workflow of a run has at its end: its template, and its nodes.

    :param template: the workflow template, of which a workflow holds a copy.
    :param nodes: number of its nodes.
    """
    fixed = size_of(template)
    plain, compressed = _node_bytes()
    whole = fixed + math.ceil(nodes * plain)
    return whole if whole <= MAX_WORKFLOW_BYTES else fixed + math.ceil(nodes * compressed)


@cache
def _node_bytes() -> tuple[float, float]:
    """Return how many bytes a node has in JSON, and in JSON that is compressed as Argo does it."""
    text = json.dumps(dict(_sample_nodes()), separators=(",", ":")).encode()
    packed = base64.b64encode(gzip.compress(text, mtime=0))
    return len(text) / _SAMPLES, len(packed) / _SAMPLES


def _sample_nodes() -> Iterator[tuple[str, KubernetesObject]]:
    """Yield nodes of pods in the form of Argo 3.7, with what differs from node to node."""
    for number in range(_SAMPLES):
        digits = int(hashlib.sha256(str(number).encode()).hexdigest()[:8], 16)
        key = f"training-x7k2p-{digits}"
        seconds = number % 60
        yield (
            key,
            {
                "id": key,
                "name": f"training-x7k2p.train({number}:{number})",
                "displayName": f"train({number}:{number})",
                "type": "Pod",
                "templateName": "train",
                "templateScope": "local/training",
                "phase": "Succeeded",
                "boundaryID": "training-x7k2p",
                "startedAt": f"2026-11-27T03:{number % 60:02}:{seconds:02}Z",
                "finishedAt": f"2026-11-27T03:{number % 60:02}:{(seconds * 7) % 60:02}Z",
                "estimatedDuration": digits % 90,
                "progress": "1/1",
                "resourcesDuration": {"cpu": digits % 90, "memory": digits % 900},
                "inputs": {"parameters": [{"name": "place", "value": str(number)}]},
                "outputs": {"exitCode": "0"},
                "children": [f"training-x7k2p-{(digits * 7919) % 2**32}"],
                "hostNodeName": "ip-10-0-0-1.eu-central-1.compute.internal",
            },
        )
