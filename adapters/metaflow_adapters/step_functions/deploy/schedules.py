"""Schedules of EventBridge's Scheduler that start runs, made and removed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

from metaflow_adapters.step_functions.aws.client import (
    Aws,
    NotPermittedError,
    NotTrustedError,
    aws_call,
    code_of,
    trust_hint,
)
from metaflow_adapters.step_functions.emit.resources import Rule, ScheduleFields
from metaflow_adapters.step_functions.plan.names import SCHEDULES, helper_name

from .access import SCHEDULER

if TYPE_CHECKING:
    from metaflow_adapters.step_functions.machine import FlowMachine
from .changes import Changes

_LOG = logging.getLogger(__name__)


_UTC = ("UTC", "Etc/UTC")


def put_schedules(
    machine: FlowMachine, aws: Aws, changes: Changes, *, is_trusted: bool | None, rules_trusted: bool | None = None
) -> tuple[Rule, ...]:
    """Make the schedules of a deployment, and return rules for those that cannot be schedules of the Scheduler.

    Roles made for Metaflow's own deployer trust EventBridge and not its Scheduler. A rule knows no timezone.

    :param machine: the flow.
    :param aws: clients of AWS.
    :param changes: records what is changed.
    :param is_trusted: whether the Scheduler may assume its role; None if unknown.
    :param rules_trusted: whether rules may, too; a rule that may not would fail each time, unseen.
    :raises AwsError: if a schedule needs the Scheduler, and that is not permitted or trusted.
    """
    rules = []
    for schedule in machine.resources.schedules:
        in_utc = schedule["ScheduleExpressionTimezone"] in _UTC
        try:
            _put_schedule(schedule, aws, changes, is_trusted=is_trusted)
        except (NotPermittedError, NotTrustedError) as problem:
            if not in_utc or rules_trusted is False:
                raise
            _LOG.info("%s is a rule of EventBridge: %s", schedule["Name"], problem)
            rules.append(_rule_of(schedule))
    return tuple(rules)


def _rule_of(schedule: ScheduleFields) -> Rule:
    return {
        "Name": schedule["Name"],
        "ScheduleExpression": schedule["ScheduleExpression"],
        "Description": schedule["Description"],
        # Metaflow's own deployer gives its target the name of the rule; under another id there would be two targets.
        "Targets": [{"Id": schedule["Name"], **schedule["Target"]}],
    }


def _put_schedule(schedule: ScheduleFields, aws: Aws, changes: Changes, *, is_trusted: bool | None) -> None:
    from botocore.exceptions import ClientError

    name, role = schedule["Name"], schedule["Target"]["RoleArn"]
    if is_trusted is False:
        raise NotTrustedError(f"{SCHEDULER} may not assume the role {role}.", hint=trust_hint(role, SCHEDULER))
    with aws_call(f"Making the schedule {name}", role=role, service=SCHEDULER):
        try:
            aws.scheduler.create_schedule(**schedule)
        except ClientError as error:
            if code_of(error) != "ConflictException":
                raise
        else:
            changes.add(f"Deleting the schedule {name}", lambda: aws.scheduler.delete_schedule(Name=name))
            return
        before = _schedule_before(aws, name)
        aws.scheduler.update_schedule(**schedule)
    if before is not None:
        changes.add(f"Restoring the schedule {name}", lambda: aws.scheduler.update_schedule(**before))


def _schedule_before(aws: Aws, name: str) -> ScheduleFields | None:
    try:
        with aws_call(f"Reading the schedule {name}"):
            found = aws.scheduler.get_schedule(Name=name)
    except NotPermittedError:
        return None
    # AWS also returns what `UpdateSchedule` does not take, e.g. when the schedule was made.
    return cast("ScheduleFields", {key: found[key] for key in ScheduleFields.__annotations__ if key in found})


def remove_schedules(aws: Aws, name: str, kept: set[str]) -> None:
    """Delete the schedules of a deployment.

    :param aws: clients of AWS.
    :param name: name of the state machine.
    :param kept: names of those that stay.
    """
    from botocore.exceptions import ClientError

    for what in SCHEDULES:
        schedule = helper_name(name, what)
        if schedule in kept:
            continue
        with aws_call(f"Deleting the schedule {schedule}"):
            try:
                aws.scheduler.delete_schedule(Name=schedule)
            except ClientError as error:
                if code_of(error) != "ResourceNotFoundException":
                    raise
