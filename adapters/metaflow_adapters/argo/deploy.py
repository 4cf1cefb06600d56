"""Deploys a flow from Metaflow's own command line: what ``argo create`` does. Imports Metaflow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from metaflow_adapters.argo.cluster.client import CRONS, TEMPLATES, ArgoCluster
from metaflow_adapters.argo.cluster.objects import ArgoObject
from metaflow_adapters.argo.cluster.suspension import is_kept_suspended, suspending
from metaflow_adapters.argo.objects.configuration import as_configured
from metaflow_adapters.argo.objects.containers import on_batch
from metaflow_adapters.argo.objects.metadata import FLOW, OWNER, SENSOR, SENSOR_NAMESPACE, TOKEN, notify_secret
from metaflow_adapters.argo.runs.runs import delete_sensor
from metaflow_adapters.ownership import check_content
from metaflow_orchestration.compile.deployment.manifest import compile_manifest
from metaflow_orchestration.compile.deployment.names import Name
from metaflow_orchestration.compile.deployment.options import DeployOptions
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.compute import Compute

from .compile import ArgoOptions, checked_deployment
from .deployment import ArgoDeployment

_NO_SECRET: Mapping[str, str] = {}


class TemplateStore:
    """Keeps the production token of a deployment in its workflow template, as Metaflow's own deployer does.

    :param cluster: where it is deployed.
    :param name: name of the template.
    :param flow: name of the flow.
    """

    target, group = "Argo Workflows", "argo"

    def __init__(self, cluster: ArgoCluster, name: str, flow: str) -> None:
        self._cluster, self._name, self._flow = cluster, name, flow

    def load(self) -> tuple[str | None, str | None]:
        """Return owner and token of the deployed template."""
        found = self._cluster.find(TEMPLATES, self._name)
        if found is None:
            return None, None
        notes = found["metadata"].get("annotations") or {}
        check_content("workflow template", self._name, self._flow, is_flow=TOKEN in notes, held=notes.get(FLOW))
        return notes.get(OWNER), notes[TOKEN]

    def save(self, owner: str, token: str) -> None:
        """Do nothing: the template that is applied next holds both."""


def compile_for_argo(obj: Any, name: Name, token: str, options: DeployOptions) -> Manifest:
    """Compile the flow of a Metaflow command line, with a pod for each step.

    :param obj: state of Metaflow's command line.
    :param name: name of the deployment.
    :param token: production token.
    :param options: options of ``create``.
    """
    from metaflow import decorators

    if obj.flow_datastore.TYPE == "local":
        raise InvalidOptionError(
            "Argo Workflows needs a datastore that pods can reach, and this one is local.",
            flow=obj.flow.name,
            hint="Give `--datastore=s3` (or azure, gs) before `argo`, or set METAFLOW_DEFAULT_DATASTORE.",
        )
    for node in obj.graph:
        if any(one.name == Compute.BATCH.value for one in node.decorators):
            raise on_batch(obj.flow.name, node.name)
    # What Metaflow's own deployer attaches, and as late.
    names = ["kubernetes", "environment"]
    decorators._attach_decorators(obj.flow, names)
    decorators._process_late_attached_decorator(
        names, obj.flow, obj.graph, obj.environment, obj.flow_datastore, obj.logger
    )
    obj.graph = obj.flow._graph
    return as_configured(compile_manifest(obj, name, token, options, runtime="argo-workflows"))


def apply(deployment: ArgoDeployment, cluster: ArgoCluster, secret: Mapping[str, str] = _NO_SECRET) -> None:
    """Bring a deployment to a cluster; what an earlier one had and this one has not no longer starts it.

    The API server is first asked whether it would take all of it, so that a refusal leaves what is deployed as it is.

    :param deployment: the deployment.
    :param cluster: the cluster.
    :param secret: content of the secret for notifications, if there is one.
    """
    changes = list(_changes(deployment, cluster, secret))
    for dry_run in (True, False):
        for change in changes:
            change(dry_run=dry_run)


def _changes(
    deployment: ArgoDeployment, cluster: ArgoCluster, secret: Mapping[str, str]
) -> Iterator[Callable[..., Any]]:
    documents = deployment.to_dicts()
    name, kinds = documents[0]["metadata"]["name"], {one["kind"] for one in documents}
    before, cron = cluster.find(TEMPLATES, name), cluster.find(CRONS, name)
    if secret:
        yield partial(cluster.save_secret, notify_secret(name), secret)
    for document in documents:
        if document["kind"] == "CronWorkflow" and is_kept_suspended(cron):
            document["spec"].setdefault("suspend", True)
        yield partial(cluster.apply, document)
    if "CronWorkflow" not in kinds:
        change = suspending(cron)
        if change:
            yield partial(cluster.patch, CRONS, name, change)
    if before is not None and _has_other_sensor(before, documents, cluster.namespace):
        yield partial(delete_sensor, cluster, before)


def _has_other_sensor(before: ArgoObject, documents: Sequence[Mapping[str, Any]], namespace: str) -> bool:
    """Tell whether a deployment had a sensor under another name, or in another namespace, than it has now."""
    notes = before["metadata"].get("annotations") or {}
    place = (notes.get(SENSOR), notes.get(SENSOR_NAMESPACE) or namespace)
    now = {
        (one["metadata"]["name"], one["metadata"].get("namespace") or namespace)
        for one in documents
        if one["kind"] == "Sensor"
    }
    return bool(place[0]) and place not in now


def make(manifest: Manifest, namespace: str, **options: Any) -> ArgoDeployment:
    """Return the objects of a compiled flow.

    :param manifest: the compiled flow.
    :param namespace: namespace of the objects.
    :param options: see :class:`~.compile.ArgoOptions`.
    """
    return checked_deployment(manifest, ArgoOptions(namespace=namespace, **options))
