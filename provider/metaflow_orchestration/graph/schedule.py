"""Cron expressions of ``@schedule`` in the form that Airflow reads.

Metaflow holds the form of AWS EventBridge: six fields with the year last, ``?`` for "no matter", Sunday = 1
(EventBridge Scheduler user guide). Users also write plain cron with five fields, Sunday = 0. Airflow takes a sixth
field as *seconds* and would fire sixty times (measured).
"""

from __future__ import annotations

import re
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.model import Schedule

_AWS_FIELDS = 6
_CRON_FIELDS = 5
_DAYS = 7


def airflow_cron(schedule: Schedule, flow: str, target: str = "Airflow") -> str:
    """Return a five-field cron expression.

    :param schedule: ``@schedule`` of the flow.
    :param flow: flow to name in an error.
    :param target: orchestrator to name in an error.
    :raises InvalidOptionError: if the expression is wrong, or says what five fields cannot.
    """
    fields = schedule.cron.split()
    if len(fields) == _AWS_FIELDS:
        fields = _from_aws(fields, schedule.cron, flow, target)
    elif len(fields) == _CRON_FIELDS:
        fields = [field.replace("?", "*") for field in fields]
    cron = " ".join(fields)
    error: object = None if len(fields) == _CRON_FIELDS else f"it has {len(fields)} fields"
    # Here and not above: most flows have no schedule.
    from croniter import CroniterError, croniter

    try:
        croniter(cron)
    except (CroniterError, ValueError) as problem:
        error = error or problem
    if error is not None:
        raise InvalidOptionError(
            f"@schedule(cron={schedule.cron!r}) cannot be read ({error}).",
            flow=flow,
            hint="Give minute, hour, day of month, month, day of week, and for the AWS form the year.",
        )
    return cron


def airflow_timezone(schedule: Schedule, flow: str) -> str:
    """Return the IANA name of the schedule's timezone.

    :param schedule: ``@schedule`` of the flow.
    :param flow: flow to name in an error.
    :raises InvalidOptionError: if no such timezone is known.
    """
    name = schedule.timezone or "UTC"
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise InvalidOptionError(
            f"@schedule(timezone={name!r}) is no known timezone.",
            flow=flow,
            hint="Use an IANA name such as Europe/Berlin.",
        ) from None
    return name


def _from_aws(fields: list[str], text: str, flow: str, target: str) -> list[str]:
    minute, hour, day, month, weekday, year = fields
    if year not in ("*", "?"):
        raise InvalidOptionError(
            f"@schedule(cron={text!r}) is bound to the year {year}, which the cron of {target} has no field for.",
            flow=flow,
            hint="Use * for the year."
            + (" Limits are start_date and end_date of MetaflowDag." if target == "Airflow" else ""),
        )
    if "W" in day.upper():
        raise InvalidOptionError(
            f"@schedule(cron={text!r}) uses W (nearest weekday), which the cron of {target} does not know.",
            flow=flow,
            hint="Name the days of the month or of the week.",
        )
    converted = [
        _steps(minute, 59),
        _steps(hour, 23),
        _steps(day, 31),
        _steps(month, 12),
        _weekdays(weekday),
    ]
    return [field.replace("?", "*") for field in converted]


def _steps(field: str, last: int) -> str:
    """Spell out ``a/n``, which means "from a on" to AWS."""
    return re.sub(r"(?<![-\d*])(\d+)/(\d+)", rf"\1-{last}/\2", field)


def _weekdays(field: str) -> str:
    """Renumber days of the week; names stay as they are."""

    def renumber(match: re.Match[str]) -> str:
        return str((int(match.group()) - 1) % _DAYS)

    parts = []
    for part in field.split(","):
        days, slash, step = part.partition("/")
        if re.fullmatch(r"\d", days) and slash:
            days = f"{days}-{_DAYS}"
        last = re.fullmatch(r"(\w{1,3})L", days, re.IGNORECASE)
        if last:
            parts.append("L" + re.sub(r"\d", renumber, last.group(1)))
            continue
        day, hash_mark, nth = days.partition("#")
        parts.append(re.sub(r"\d", renumber, day) + hash_mark + nth + slash + step)
    return ",".join(parts)
