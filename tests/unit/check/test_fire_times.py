"""When a schedule starts the next runs: as Airflow's own timetable says, and by the clock on the wall elsewhere."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import islice

import pendulum
from airflow.timetables.base import TimeRestriction
from airflow.timetables.trigger import CronTriggerTimetable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metaflow_orchestration.check.fire_times import fire_times, schedule_rows
from metaflow_orchestration.check.report import State

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Sao_Paulo")
CRONS = ("30 2 * * *", "0 * * * *", "*/20 * * * *", "*/20 1-3 * * *", "0 3 * * 0", "15 2,3 * * *", "0 0 L * *")
MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(timezone.utc))


def times(cron: str, zone: str, after: datetime, *, as_airflow: bool = False) -> list[datetime]:
    return list(islice(fire_times(cron, zone, after, as_airflow=as_airflow), 5))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(cron=st.sampled_from(CRONS), zone=st.sampled_from(ZONES), after=MOMENTS)
def test_the_next_times_are_those_of_airflows_own_timetable(cron: str, zone: str, after: datetime) -> None:
    timetable = CronTriggerTimetable(cron, timezone=zone)
    # A time equal to the moment is in the past.
    earliest = pendulum.instance(after + timedelta(microseconds=1))
    expected, last = [], None
    for _ in range(5):
        info = timetable.next_dagrun_info(
            last_automated_data_interval=last,
            restriction=TimeRestriction(earliest=earliest, latest=None, catchup=True),
        )
        assert info is not None
        expected.append(info.run_after.timestamp())
        last = info.data_interval
    assert [one.timestamp() for one in times(cron, zone, after, as_airflow=True)] == expected


def test_a_time_that_a_change_of_the_clock_leaves_out_is_left_out_but_on_airflow() -> None:
    before = datetime(2026, 3, 28, 12, tzinfo=timezone.utc)
    assert [str(one) for one in times("30 2 * * *", "Europe/Berlin", before)[:2]] == [
        "2026-03-30 02:30:00+02:00",
        "2026-03-31 02:30:00+02:00",
    ]
    assert str(times("30 2 * * *", "Europe/Berlin", before, as_airflow=True)[0]) == "2026-03-29 03:30:00+02:00"


def test_the_times_of_an_hour_that_is_repeated_stand_in_the_zone_of_the_flow() -> None:
    before = datetime(2026, 10, 24, 23, 40, tzinfo=timezone.utc)
    hourly = [str(one) for one in times("0 * * * *", "Europe/Berlin", before)[:3]]
    assert hourly == ["2026-10-25 02:00:00+02:00", "2026-10-25 02:00:00+01:00", "2026-10-25 03:00:00+01:00"]
    daily = [str(one) for one in times("30 2 * * *", "Europe/Berlin", before)[:2]]
    assert daily == ["2026-10-25 02:30:00+02:00", "2026-10-26 02:30:00+01:00"]


def test_a_schedule_that_never_fires_again_is_a_warning() -> None:
    now = datetime(2026, 11, 27, tzinfo=timezone.utc)
    (row,) = schedule_rows("argo", "next runs", "0 0 31 2 *", "UTC", fire_times("0 0 31 2 *", "UTC", now))
    assert (row.state, row.found) == (State.WARNING, "0 0 31 2 * (UTC): never again")
    assert row.fix
