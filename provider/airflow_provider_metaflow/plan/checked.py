"""What Airflow would do with a flow: the rows of a check. Imports no Airflow: a laptop that deploys may have none."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from airflow_provider_metaflow.deploy.dag_file import warnings
from airflow_provider_metaflow.plan.dag import DagPlan, plan_of
from airflow_provider_metaflow.plan.events import asset_name
from airflow_provider_metaflow.plan.rules import MAX_ASSET, MAX_ID, check_deployable
from metaflow_orchestration.check.container_needs import container_needs
from metaflow_orchestration.check.counts import all_tasks, assumptions, tasks_of
from metaflow_orchestration.check.fire_times import fire_times, schedule_rows
from metaflow_orchestration.check.report import Row, State, Topic, counted, named, need, sized
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.graph.compute import Compute, compute_of
from metaflow_orchestration.graph.model import SensorKind, Step, StepKind
from metaflow_orchestration.graph.schedule import airflow_cron, airflow_timezone
from metaflow_orchestration.run.contexts import MAX_SPLITS, packed

NAME = "airflow"

MAP_LENGTH = 1024
"""Airflow's default of ``[core] max_map_length``; more splits share mapped task instances."""

_PROVIDERS = {
    Compute.KUBERNETES: "apache-airflow-providers-cncf-kubernetes",
    Compute.BATCH: "apache-airflow-providers-amazon",
}
_CONNECTIONS = {"slack": "slackwebhook", "pager_duty": "pagerduty_events", "incident_io": "http"}


class AirflowTarget:
    """Airflow, as ``airflow create`` would deploy a flow to it."""

    name = NAME

    def rows(self, manifest: Manifest, width: int, now: datetime) -> Iterator[Row]:
        """Yield what was found out about a flow; see :class:`~metaflow_orchestration.check.target.Target`.

        :param manifest: the compiled flow.
        :param width: number of splits of each foreach.
        :param now: when the next runs are counted from.
        :raises MetaflowProviderError: if ``airflow create`` refuses the flow.
        """
        check_deployable(manifest)
        plan = plan_of(manifest)
        for text in warnings(manifest):
            yield Row(target=NAME, topic=Topic.SUPPORT, subject="flow", found=text, state=State.WARNING)
        yield from _names(manifest, plan)
        yield from _sizes(manifest, width)
        yield from _costs(manifest, plan, width)
        yield from _schedules(manifest, now)
        yield from _needs(manifest)


def _names(manifest: Manifest, plan: DagPlan) -> Iterator[Row]:
    yield named(NAME, "DAG id", manifest.deployment.name, MAX_ID)
    ids = [task.step for task in plan.tasks]
    ids += [one.task_id for one in plan.splits]
    ids += [one.task_id for one in plan.exits]
    ids += [one.group_id for one in plan.segments]
    yield named(NAME, "longest task id", max(ids, key=len), MAX_ID)
    for trigger in manifest.graph.triggers:
        yield named(NAME, "asset waited for", asset_name(trigger.event), MAX_ASSET)
    events = [event for task in plan.tasks for event in task.events]
    if events:
        yield named(NAME, "longest asset emitted", max(map(asset_name, events), key=len), MAX_ASSET)


def _sizes(manifest: Manifest, width: int) -> Iterator[Row]:
    for step in manifest.graph.steps:
        if step.kind is StepKind.FOREACH:
            splits = tasks_of(step, width) * width
            note = f", in {packed(splits, MAP_LENGTH):,} mapped task instances"
            fix = "Loop over chunks: give several items to each split."
            yield sized(NAME, f"foreach of {step.name}", splits, MAX_SPLITS, "splits", note=note, fix=fix)


def _costs(manifest: Manifest, plan: DagPlan, width: int) -> Iterator[Row]:
    graph = manifest.graph
    assumed = assumptions(graph, width)
    yield counted(NAME, "Metaflow tasks of a run", all_tasks(graph, width), "tasks", assumed)
    instances = sum(packed(tasks_of(step, width), MAP_LENGTH) for step in graph.steps)
    instances += sum(packed(tasks_of(graph.step(one.foreach), width), 1) for one in plan.splits)
    instances += len(plan.exits) + len(graph.sensors)
    yield counted(NAME, "task instances of a run", instances, "task instances", assumed)
    for compute, unit in ((Compute.KUBERNETES, "pods"), (Compute.BATCH, "jobs")):
        steps = [step for step in graph.steps if compute_of(step) is compute]
        if steps:
            amount = sum(tasks_of(step, width) for step in steps)
            yield counted(NAME, f"{unit} of a run", amount, unit, assumed)
    yield counted(NAME, "price of 1,000 runs", 0.0, "USD", "; the workers' machines cost what they cost")


def _schedules(manifest: Manifest, now: datetime) -> Iterator[Row]:
    schedule, flow = manifest.graph.schedule, manifest.graph.name
    if schedule is not None:
        cron, zone = airflow_cron(schedule, flow), airflow_timezone(schedule, flow)
        times = fire_times(cron, zone, now, as_airflow=True)
        yield from schedule_rows(NAME, "next runs", cron, zone, times)


def _needs(manifest: Manifest) -> Iterator[Row]:
    deployment, graph = manifest.deployment, manifest.graph
    for kind, name in named_in_airflow(manifest):
        fix = "metaflow-airflow pools FOLDER --create" if kind == "pool" else ""
        yield need(NAME, kind, name, document={"name": name, "fix": fix} if fix else {"name": name})
    if deployment.notifications and not any(_endpoints(manifest)):
        yield need(NAME, "connection", "none is named", state=State.WARNING, fix="Give --notify-slack-conn-id.")
    computes = {step.name: compute_of(step) for step in graph.steps}
    for compute, provider in _PROVIDERS.items():
        if compute in computes.values():
            yield need(NAME, "package of workers", provider)
    if any(sensor.kind is SensorKind.S3_KEY for sensor in graph.sensors):
        yield need(NAME, "package of workers", _PROVIDERS[Compute.BATCH])
    yield need(NAME, "datastore", _datastore(manifest, [graph.step(name) for name in computes]))
    yield from container_needs(manifest, NAME, computes)


def _datastore(manifest: Manifest, steps: list[Step]) -> str:
    who = "workers" if any(compute_of(step) is Compute.LOCAL for step in steps) else "containers"
    return f"{manifest.command.datastore_root}, read and written by {who}"


def _endpoints(manifest: Manifest) -> Iterator[str]:
    recipients = manifest.deployment.notifications
    for endpoint in _CONNECTIONS:
        name = getattr(recipients, endpoint, None)
        if name:
            yield name


def named_in_airflow(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield kind and name of the pools and connections that a deployment names and Airflow must have.

    :param manifest: the compiled flow.
    """
    if manifest.deployment.worker_pool:
        yield "pool", manifest.deployment.worker_pool
    for name in _endpoints(manifest):
        yield "connection", name
    for sensor in manifest.graph.sensors:
        if sensor.arguments.get("aws_conn_id"):
            yield "connection", str(sensor.arguments["aws_conn_id"])
        if sensor.arguments.get("pool"):
            yield "pool", str(sensor.arguments["pool"])
