"""``@schedule`` as a schedule of EventBridge Scheduler, which knows timezones."""

from __future__ import annotations

from metaflow_adapters.step_functions.plan.names import helper_name
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.model import Schedule
from metaflow_orchestration.graph.schedule import airflow_cron, airflow_timezone

from .resources import ScheduleFields, ScheduleTarget

_AWS_FIELDS = 6
_DAY, _MONTH, _WEEKDAY = 2, 3, 4


def schedule_of(manifest: Manifest, machine_arn: str, role: str) -> ScheduleFields | None:
    """Return the schedule of a flow as ``CreateSchedule`` takes it, None without one.

    :param manifest: the compiled flow.
    :param machine_arn: the state machine.
    :param role: role that may start it.
    :raises InvalidOptionError: if the schedule cannot be read.
    """
    graph = manifest.graph
    if graph.schedule is None:
        return None
    target: ScheduleTarget = {"Arn": machine_arn, "RoleArn": role, "Input": "{}"}
    return _fields(manifest, graph.schedule, "", f"Starts the Metaflow flow {graph.name}.", target)


def reset_of(manifest: Manifest, gate_arn: str, role: str, given: str) -> ScheduleFields | None:
    """Return the schedule by which events that have come are forgotten, None without one.

    :param manifest: the compiled flow.
    :param gate_arn: the state machine that gathers them.
    :param role: role that may start it.
    :param given: its input.
    :raises InvalidOptionError: if the schedule cannot be read.
    """
    graph = manifest.graph
    if graph.trigger_reset is None:
        return None
    described = f"Makes the Metaflow flow {graph.name} forget the events that have come."
    target: ScheduleTarget = {"Arn": gate_arn, "RoleArn": role, "Input": given}
    return _fields(manifest, graph.trigger_reset, "reset", described, target)


def _fields(
    manifest: Manifest, schedule: Schedule, what: str, described: str, target: ScheduleTarget
) -> ScheduleFields:
    flow = manifest.graph.name
    return {
        "Name": helper_name(manifest.deployment.name, what),
        "ScheduleExpression": f"cron({aws_cron(schedule, flow)})",
        "ScheduleExpressionTimezone": airflow_timezone(schedule, flow),
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "State": "ENABLED",
        "Description": described,
        "Target": target,
    }


def aws_cron(schedule: Schedule, flow: str) -> str:
    """Return the cron expression of a schedule in AWS's form: six fields, ``?`` for one of the days, Sunday = 1.

    :param schedule: ``@schedule`` of a flow; one of six fields stays as it is.
    :param flow: flow to name in an error.
    :raises InvalidOptionError: if it cannot be read, or AWS's form cannot say it.
    """
    fields = schedule.cron.split()
    if len(fields) == _AWS_FIELDS:
        return " ".join(_checked(fields, schedule, flow))
    # It checks the five fields.
    minute, hour, day, month, weekday = airflow_cron(schedule, flow, "AWS").split()
    if day != "*" and weekday != "*":
        raise InvalidOptionError(
            f"@schedule(cron={schedule.cron!r}) names days of the month and of the week, and AWS takes one of them.",
            flow=flow,
            hint="Leave one of them as *.",
        )
    days = ("?", _weekdays(weekday)) if weekday != "*" else (day, "?")
    return f"{minute} {hour} {days[0]} {month} {days[1]} *"


def _checked(fields: list[str], schedule: Schedule, flow: str) -> list[str]:
    known = "0123456789,-*/?LW#ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    bad = [field for field in fields if set(field.upper()) - set(known)]
    days = [fields[_DAY], fields[_WEEKDAY]]
    if bad or days.count("?") != 1:
        problem = f"{bad[0]!r} is no field of it" if bad else "one of its two fields for days must be ?"
        raise InvalidOptionError(
            f"@schedule(cron={schedule.cron!r}) cannot be read by AWS ({problem}).",
            flow=flow,
            hint="Give minute, hour, day of month, month, day of week and year.",
        )
    return fields


def _weekdays(field: str) -> str:
    """Return days of the week in AWS's numbers, each by itself; names stay as they are."""
    if not any(one.isdigit() for one in field):
        return field
    from croniter import croniter

    # croniter knows ranges, steps and lists, and counts from Sunday = 0.
    numbers = croniter.expand(f"* * * * {field}")[0][4]
    return ",".join(str(int(one) % 7 + 1) for one in sorted({int(one) % 7 for one in numbers}))
