"""What Argo Workflows would do with a flow: the rows of a check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from metaflow_adapters.argo.plan.flow import plan_flow
from metaflow_adapters.argo.plan.names import MAX_NAME
from metaflow_adapters.notifications import notified_endpoints
from metaflow_orchestration.check.container_needs import container_needs
from metaflow_orchestration.check.counts import all_tasks, assumptions
from metaflow_orchestration.check.fire_times import fire_times, schedule_rows
from metaflow_orchestration.check.report import Row, counted, named, need, sized
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.graph.compute import Compute
from metaflow_orchestration.graph.schedule import airflow_cron, airflow_timezone

from .compile import ArgoOptions, checked_deployment
from .deployment import ArgoDeployment
from .limits import (
    MAX_ANNOTATION_BYTES,
    MAX_CRON_NAME,
    MAX_OBJECT_BYTES,
    MAX_WORKFLOW_BYTES,
    annotations_size,
    nodes_of,
    size_of,
    workflow_size,
)

NAME = "argo"

_NARROW = "Loop over chunks, or let the controller offload node statuses to a database (nodeStatusOffLoad)."


class ArgoTarget:
    """Argo Workflows, as ``argo create`` would deploy a flow to it.

    :param options: options of the deployment.
    """

    name = NAME

    def __init__(self, options: ArgoOptions | None = None) -> None:
        self._options = options or ArgoOptions()

    def rows(self, manifest: Manifest, width: int, now: datetime) -> Iterator[Row]:
        """Yield what was found out about a flow; see :class:`~metaflow_orchestration.check.target.Target`.

        :param manifest: the compiled flow.
        :param width: number of splits of each foreach.
        :param now: when the next runs are counted from.
        :raises MetaflowProviderError: if ``argo create`` refuses the flow.
        """
        deployment = checked_deployment(manifest, self._options)
        yield from _names(deployment)
        yield from _sizes_and_costs(deployment, width)
        yield from _schedules(manifest, now)
        yield from self._needs(manifest, deployment)

    def _needs(self, manifest: Manifest, deployment: ArgoDeployment) -> Iterator[Row]:
        if self._options.namespace:
            yield need(NAME, "Kubernetes namespace", self._options.namespace)
        yield need(NAME, "datastore", f"{manifest.command.datastore_root}, read and written by containers")
        yield from container_needs(manifest, NAME, {step.name: Compute.KUBERNETES for step in manifest.graph.steps})
        for key, secret in notified_endpoints(manifest.deployment.notifications).items():
            yield need(NAME, "Kubernetes secret", f"{secret} with the key {key}")
        for verb_rule in _rules(deployment):
            verbs, what = ", ".join(verb_rule["verbs"]), ", ".join(verb_rule["resources"])
            yield need(NAME, "role of the deployer", f"{verbs} {what}", document=verb_rule)
        results = {"apiGroups": ["argoproj.io"], "resources": ["workflowtaskresults"], "verbs": ["create", "patch"]}
        yield need(NAME, "role of pods", "create, patch workflowtaskresults", document=results)
        if deployment.sensor is not None:
            account = deployment.sensor["spec"]["template"]["serviceAccountName"]
            yield need(NAME, "service account of sensors", f"{account}, which may create workflows")
            yield need(NAME, "event bus", str(deployment.sensor["spec"]["eventBusName"]))
        gangs = [step.name for step in manifest.graph.steps if step.gang]
        if gangs:
            what = "JobSet, and its controller" if self._options.gang == "jobset" else "Job"
            yield need(NAME, "kind of Kubernetes", f"{what} (of {', '.join(gangs)})")
            yield need(NAME, "role of pods", f"create and get {self._options.gang}s")


def _names(deployment: ArgoDeployment) -> Iterator[Row]:
    subjects = {
        "WorkflowTemplate": ("workflow template", MAX_NAME),
        "CronWorkflow": ("cron workflow", MAX_CRON_NAME),
        "Sensor": ("sensor", None),
    }
    for document in deployment.to_dicts():
        subject, limit = subjects[document["kind"]]
        yield named(NAME, subject, document["metadata"]["name"], limit)
    for step in plan_flow(deployment.manifest.graph).steps:
        if step.name != step.step:
            yield named(NAME, f"template of step {step.step}", step.name)


def _sizes_and_costs(deployment: ArgoDeployment, width: int) -> Iterator[Row]:
    graph = deployment.manifest.graph
    documents: list[Mapping[str, Any]] = list(deployment.to_dicts())
    for document in documents:
        yield sized(NAME, document["kind"], size_of(document), MAX_OBJECT_BYTES, "bytes")
    notes = annotations_size(documents[0])
    yield sized(NAME, "annotations of the template", notes, MAX_ANNOTATION_BYTES, "bytes")
    made = nodes_of(plan_flow(graph), graph, width)
    size = workflow_size(documents[0], made.nodes)
    note = f" at the end of a run, about; {made.nodes:,} nodes"
    yield sized(NAME, "workflow", size, MAX_WORKFLOW_BYTES, "bytes", note=note, fix=_NARROW)
    assumed = assumptions(graph, width)
    yield counted(NAME, "Metaflow tasks of a run", all_tasks(graph, width), "tasks", assumed)
    yield counted(NAME, "pods of a run", made.pods + len(graph.exit_hooks), "pods", assumed)
    yield counted(NAME, "price of 1,000 runs", 0.0, "USD", "; the cluster's nodes cost what they cost")
    workers = deployment.manifest.deployment.max_workers
    if workers:
        yield counted(NAME, "pods at a time", min(workers, made.pods), "pods", f" of {workers:,} (--max-workers)")


def _schedules(manifest: Manifest, now: datetime) -> Iterator[Row]:
    graph = manifest.graph
    for subject, schedule in (("next runs", graph.schedule), ("events forgotten", graph.trigger_reset)):
        if schedule is not None:
            cron = airflow_cron(schedule, graph.name, "Argo Workflows")
            zone = airflow_timezone(schedule, graph.name)
            yield from schedule_rows(NAME, subject, cron, zone, fire_times(cron, zone, now))


def _rules(deployment: ArgoDeployment) -> Iterator[dict[str, list[str]]]:
    """Yield what the deployer must be allowed, as rules of a Kubernetes role."""
    plurals = {"WorkflowTemplate": "workflowtemplates", "CronWorkflow": "cronworkflows", "Sensor": "sensors"}
    for document in deployment.to_dicts():
        kind = plurals[document["kind"]]
        verbs = ["create", "delete", "get", *(["patch"] if kind == "cronworkflows" else []), "update"]
        yield {"apiGroups": ["argoproj.io"], "resources": [kind], "verbs": verbs}
