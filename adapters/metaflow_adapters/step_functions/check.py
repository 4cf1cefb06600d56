"""What Step Functions and AWS Batch would do with a flow: the rows of a check."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from metaflow_adapters.notifications import notified_endpoints
from metaflow_adapters.step_functions.deploy.flow import check_deployable
from metaflow_adapters.step_functions.emit.resources import Statement
from metaflow_adapters.step_functions.emit.schedule import aws_cron
from metaflow_adapters.step_functions.language.jsonata import to_json
from metaflow_adapters.step_functions.language.states import MAX_NAME as MAX_STATE_NAME
from metaflow_adapters.step_functions.permissions.deployer import MAX_MANAGED_POLICY
from metaflow_adapters.step_functions.permissions.trust import VARIABLES
from metaflow_adapters.step_functions.plan.flow import plan_flow
from metaflow_adapters.step_functions.plan.names import MAX_HELPER_NAME, MAX_NAME
from metaflow_adapters.step_functions.plan.nodes import JobKind, JobNode, MapNode, ScopePlan, SplitNode
from metaflow_orchestration.check.container_needs import container_needs
from metaflow_orchestration.check.counts import all_tasks, assumptions
from metaflow_orchestration.check.fire_times import fire_times, schedule_rows
from metaflow_orchestration.check.report import Row, State, Topic, counted, named, need, refused, sized
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import MetaflowProviderError
from metaflow_orchestration.graph.compute import Compute
from metaflow_orchestration.graph.model import Schedule
from metaflow_orchestration.graph.schedule import airflow_cron, airflow_timezone

from .compile import StepFunctionsOptions, machine_from
from .limits import (
    MAX_ARRAY,
    MAX_DEFINITION_BYTES,
    MAX_EVENTS,
    MAX_PAYLOAD_BYTES,
    SUBMISSIONS_PER_SECOND,
    USD_PER_TRANSITION,
    cost_of,
    throttled,
)
from .machine import FlowMachine

NAME = "step-functions"

MAX_JOB_DEFINITION_BYTES = 24 * 1024
"""Largest job definition (AWS Batch, service quotas)."""

MAX_INLINE_POLICIES = 10_240
"""Characters of all inline policies of a role, white space not counted (IAM, quotas)."""

_RUNS = 1000
_FIVE_FIELDS = 5
_DISTRIBUTE = "Use --use-distributed-map, whose splits have histories of their own."
_DIVIDE_POLICY = "Give the role a managed policy beside its inline ones, or choose a shorter --name."
_LOOP = "Loop over chunks: give several items to each split."


class StepFunctionsTarget:
    """Step Functions, as ``sfn create`` would deploy a flow to it.

    :param options: options of the deployment.
    """

    name = NAME

    def __init__(self, options: StepFunctionsOptions | None = None) -> None:
        self._options = options or StepFunctionsOptions()

    def rows(self, manifest: Manifest, width: int, now: datetime) -> Iterator[Row]:
        """Yield what was found out about a flow; see :class:`~metaflow_orchestration.check.target.Target`.

        :param manifest: the compiled flow.
        :param width: number of splits of each foreach.
        :param now: when the next runs are counted from.
        :raises MetaflowProviderError: if ``sfn create`` refuses the flow.
        """
        machine = machine_from(manifest, self._options)
        try:
            check_deployable(machine)
        except MetaflowProviderError as error:
            # What a run costs is known without the roles of an installation, too.
            yield refused(NAME, error)
        yield from _names(machine)
        yield from _sizes(machine)
        plan = plan_flow(
            manifest.graph, max_workers=manifest.deployment.max_workers, distributed=self._options.distributed
        )
        yield from _sizes_of_runs(machine, plan, width)
        yield from _costs(machine, width)
        yield from _schedules(manifest, now)
        yield from _needs(machine)


def _names(machine: FlowMachine) -> Iterator[Row]:
    yield named(NAME, "state machine", machine.name, MAX_NAME)
    for name in machine.resources.state_machines:
        yield named(NAME, "helping state machine", name, MAX_NAME)
    for schedule in machine.resources.schedules:
        yield named(NAME, "schedule", schedule["Name"], MAX_HELPER_NAME)
    for rule in machine.resources.rules:
        yield named(NAME, "rule", rule["Name"], MAX_HELPER_NAME)
    for definition in machine.resources.job_definitions:
        yield named(NAME, "job definition", definition["jobDefinitionName"])
    longest = max((state.name for state in machine.states.all_states()), key=len)
    yield named(NAME, "longest state", longest, MAX_STATE_NAME)


def _sizes(machine: FlowMachine) -> Iterator[Row]:
    yield sized(NAME, "definition", len(machine.to_json().encode()), MAX_DEFINITION_BYTES, "bytes")
    for name, definition in machine.resources.state_machines.items():
        yield sized(NAME, f"definition of {name}", len(to_json(definition).encode()), MAX_DEFINITION_BYTES, "bytes")
    largest = max((len(to_json(one).encode()) for one in machine.resources.job_definitions), default=0)
    yield sized(NAME, "largest job definition", largest, MAX_JOB_DEFINITION_BYTES, "bytes")
    for role, policy in machine.resources.policies.items():
        limit = MAX_INLINE_POLICIES if role in VARIABLES else MAX_MANAGED_POLICY
        yield sized(NAME, f"policy of {role}", len(to_json(policy)), limit, "characters", fix=_DIVIDE_POLICY)


def _sizes_of_runs(machine: FlowMachine, plan: ScopePlan, width: int) -> Iterator[Row]:
    cost = cost_of(machine.states, splits=width)
    yield sized(NAME, "history of a run", cost.events, MAX_EVENTS, "events", fix=_DISTRIBUTE)
    if cost.child_events:
        yield sized(NAME, "history of a split", cost.child_events, MAX_EVENTS, "events", fix=_DISTRIBUTE)
    for name, at_a_time in throttled(machine.states, width):
        yield Row(
            target=NAME,
            topic=Topic.SIZE,
            subject=f"splits at a time of {name}",
            found=f"{at_a_time:,}, and AWS Batch takes {SUBMISSIONS_PER_SECOND} submissions a second from an account; "
            "the others are tried again, each time for the price of a state transition",
            state=State.WARNING,
            fix="Use a smaller --max-workers.",
            amount=at_a_time,
            unit="splits",
        )
    for node in _nodes(plan):
        if isinstance(node, JobNode) and node.kind is JobKind.ARRAY:
            fix = "Use --max-workers, which makes maps."
            yield sized(NAME, f"array job of {node.step}", width, MAX_ARRAY, "children", fix=fix)
        elif isinstance(node, MapNode):
            # The numbers from 0 on, with commas and brackets.
            size = sum(len(str(number)) + 1 for number in range(width)) + 1
            yield sized(NAME, f"items of {node.name}", size, MAX_PAYLOAD_BYTES, "bytes", fix=_LOOP)


def _nodes(plan: ScopePlan) -> Iterator[Any]:
    for node in plan.nodes:
        yield node
        if isinstance(node, SplitNode):
            for branch in node.branches:
                yield from _nodes(branch)
        elif isinstance(node, MapNode):
            yield from _nodes(node.body)


def _costs(machine: FlowMachine, width: int) -> Iterator[Row]:
    graph = machine.manifest.graph
    assumed = assumptions(graph, width)
    cost = cost_of(machine.states, splits=width)
    yield counted(NAME, "Metaflow tasks of a run", all_tasks(graph, width), "tasks", assumed)
    yield counted(NAME, "jobs of a run", all_tasks(graph, width), "jobs", assumed)
    yield counted(NAME, "state transitions of a run", cost.transitions, "transitions", assumed)
    price = round(cost.transitions * USD_PER_TRANSITION * _RUNS, 4)
    note = " of state transitions; jobs cost what their compute environment costs"
    yield counted(NAME, "price of 1,000 runs", price, "USD", note)


def _schedules(manifest: Manifest, now: datetime) -> Iterator[Row]:
    graph = manifest.graph
    for subject, schedule in (("next runs", graph.schedule), ("events forgotten", graph.trigger_reset)):
        if schedule is not None:
            zone = airflow_timezone(schedule, graph.name)
            times = fire_times(_readable(schedule, graph.name), zone, now)
            yield from schedule_rows(NAME, subject, f"cron({aws_cron(schedule, graph.name)})", zone, times)


def _readable(schedule: Schedule, flow: str) -> str:
    """Return a schedule as croniter reads it, with the year as the last of seven fields if AWS was given one."""
    fields = schedule.cron.split()
    if len(fields) == _FIVE_FIELDS:
        return airflow_cron(schedule, flow)
    minute, hour, day, month, weekday, year = fields
    # Nearest weekdays are known to AWS and to croniter, but not to Airflow.
    nearest = day if "W" in day.upper() else None
    plain = Schedule(cron=" ".join([minute, hour, "?" if nearest else day, month, weekday, "*"]))
    found = airflow_cron(plain, flow).split()
    if nearest:
        found[2] = nearest
    return " ".join(found if year in ("*", "?") else [*found, "0", year])


def _needs(machine: FlowMachine) -> Iterator[Row]:
    manifest, settings = machine.manifest, machine.settings
    arns = {
        "state_machine": settings.machine_role,
        "events": settings.events_role,
        "execution": settings.execution_role,
    }
    used = [
        role
        for role in machine.resources.policies
        if role != "events" or machine.resources.schedules or machine.resources.rules
    ]
    for role in used:
        if arns.get(role):
            yield need(NAME, f"role {role}", f"{arns[role]} ({VARIABLES[role]})")
        for statement in machine.resources.policies[role]["Statement"]:
            yield need(NAME, f"IAM statement of {role}", _summed_up(statement), document=statement)
    for role, trust in machine.trust_policies().items():
        if role in used:
            services = ", ".join(trust["Statement"][0]["Principal"]["Service"])
            yield need(NAME, f"trust of {role}", services, document=trust)
    yield need(NAME, "datastore", f"{manifest.command.datastore_root}, read and written by jobs")
    yield from container_needs(manifest, NAME, {step.name: Compute.BATCH for step in manifest.graph.steps})
    notifications = manifest.deployment.notifications
    for key, secret in notified_endpoints(notifications).items():
        yield need(NAME, "secret of AWS Secrets Manager", f"{secret} with the key {key}")
    if notifications is not None and notifications.sns_topic:
        yield need(NAME, "SNS topic", notifications.sns_topic)
    if machine.log_history:
        yield need(NAME, "log group", str(settings.log_group))


def _summed_up(statement: Statement) -> str:
    """Return a statement in short; the whole of it is the document of its row."""
    resources = statement["Resource"]
    where = resources[0] if len(resources) == 1 else f"{len(resources)} resources"
    return f"{', '.join(statement['Action'])} on {where}"
