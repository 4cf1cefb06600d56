"""When a schedule starts the next runs, in its own timezone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from itertools import islice
from zoneinfo import ZoneInfo

from croniter import CroniterBadDateError, croniter

from .report import Row, State, Topic

COUNT = 5


def fire_times(cron: str, zone: str, after: datetime, *, as_airflow: bool = False) -> Iterator[datetime]:
    """Yield when a cron expression fires, without end unless it never does again.

    An expression for every hour goes by elapsed time: it fires in both of the hours that a change of the clock
    repeats. Any other one goes by the clock on the wall, and fires once there.

    :param cron: the expression, as croniter reads it.
    :param zone: IANA name of the timezone.
    :param after: the moment that all times are later than.
    :param as_airflow: whether it fires as Airflow's ``CronTriggerTimetable`` does: at the second of two equal times,
        and later where a change of the clock leaves the time out. Go's and AWS's schedulers take the first, and leave
        out what is left out.
    """
    place = ZoneInfo(zone)
    current = after.astimezone(place)
    is_hourly = _covers_every_hour(cron)
    wall = current.replace(tzinfo=None)
    while True:
        try:
            following = croniter(cron, wall).get_next(datetime)
        except CroniterBadDateError:
            return
        if is_hourly:
            moment = (_utc(current) + (following - wall)).astimezone(place)
            wall = moment.replace(tzinfo=None)
        else:
            wall = following
            moment = _utc(following.replace(tzinfo=place)).astimezone(place)
            exists = moment.replace(tzinfo=None) == following
            if not exists and not as_airflow:
                continue
            if exists:
                moment = following.replace(tzinfo=place, fold=int(as_airflow))
        if _utc(moment) > _utc(current):
            current = moment
            yield moment


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(timezone.utc)


def _covers_every_hour(cron: str) -> bool:
    hours = croniter(cron).expanded[1]
    return bool(hours == ["*"])


def schedule_rows(target: str, subject: str, rule: str, zone: str, times: Iterator[datetime]) -> Iterator[Row]:
    """Yield the rows of a schedule: its rule, and the next times that it fires.

    :param target: the orchestrator.
    :param subject: what the schedule does.
    :param rule: its expression in the orchestrator's form.
    :param zone: its timezone.
    :param times: when it fires.
    """
    found = [moment.isoformat(sep=" ", timespec="minutes") for moment in islice(times, COUNT)]
    if not found:
        yield Row(
            target=target,
            topic=Topic.SCHEDULE,
            subject=subject,
            found=f"{rule} ({zone}): never again",
            state=State.WARNING,
            fix="Name a day that exists.",
        )
        return
    yield Row(
        target=target,
        topic=Topic.SCHEDULE,
        subject=subject,
        found=f"{rule} ({zone}): {', '.join(found)}",
        document={"expression": rule, "timezone": zone, "next": found},
    )
