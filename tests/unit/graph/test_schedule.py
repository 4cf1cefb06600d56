from __future__ import annotations

import pytest

from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.model import Schedule
from metaflow_orchestration.graph.schedule import airflow_cron, airflow_timezone


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        # @schedule(daily=True), (hourly=True), (weekly=True)
        ("0 0 * * ? *", "0 0 * * *"),
        ("0 * * * ? *", "0 * * * *"),
        ("0 0 ? * SUN *", "0 0 * * SUN"),
        # AWS numbers Sunday 1, cron 0
        ("0 10 ? * 1 *", "0 10 * * 0"),
        ("0 10 ? * 2-6 *", "0 10 * * 1-5"),
        ("0 10 ? * 7,1 *", "0 10 * * 6,0"),
        ("0 10 ? * MON-FRI *", "0 10 * * MON-FRI"),
        ("0 10 ? * 6#3 *", "0 10 * * 5#3"),
        ("0 10 ? * 6L *", "0 10 * * L5"),
        ("0 10 L * ? *", "0 10 L * *"),
        # "from a on" of AWS
        ("0/15 8-17 * * ? *", "0-59/15 8-17 * * *"),
        ("*/15 1/4 * * ? *", "*/15 1-23/4 * * *"),
        # plain cron stays what it is
        ("30 4 * * 1", "30 4 * * 1"),
        ("*/5 * ? * *", "*/5 * * * *"),
    ],
)
def test_both_forms_of_cron_mean_what_their_users_mean(cron: str, expected: str) -> None:
    assert airflow_cron(Schedule(cron=cron), "F") == expected


@pytest.mark.parametrize(
    ("cron", "message"),
    [
        ("0 0 1 1 ? 2030", "bound to the year 2030"),
        ("0 0 15W * ? *", "uses W"),
        ("0 0 * *", "it has 4 fields"),
        ("0 0 * * * * *", "it has 7 fields"),
        ("99 0 * * *", "cannot be read"),
    ],
)
def test_a_cron_that_airflow_cannot_keep_is_refused(cron: str, message: str) -> None:
    with pytest.raises(InvalidOptionError, match=message) as caught:
        airflow_cron(Schedule(cron=cron), "SomeFlow")
    assert "flow SomeFlow" in str(caught.value)


def test_a_timezone_is_kept_and_utc_is_the_default() -> None:
    assert airflow_timezone(Schedule(cron="", timezone="Europe/Berlin"), "F") == "Europe/Berlin"
    assert airflow_timezone(Schedule(cron=""), "F") == "UTC"


def test_an_unknown_timezone_is_refused() -> None:
    with pytest.raises(InvalidOptionError, match=r"'Mars/Base'\) is no known timezone"):
        airflow_timezone(Schedule(cron="", timezone="Mars/Base"), "F")


def test_a_daily_schedule_fires_once_a_day_and_not_sixty_times() -> None:
    import pendulum
    from airflow.sdk import CronTriggerTimetable
    from airflow.serialization.decoders import decode_timetable
    from airflow.serialization.encoders import encode_timetable
    from airflow.timetables.base import TimeRestriction

    made = CronTriggerTimetable(airflow_cron(Schedule(cron="0 0 * * ? *"), "F"), timezone="Europe/Berlin")
    timetable = decode_timetable(encode_timetable(made))
    restriction = TimeRestriction(pendulum.datetime(2026, 3, 27), None, True)
    fired = []
    last = None
    for _ in range(4):
        info = timetable.next_dagrun_info(last_automated_data_interval=last, restriction=restriction)
        assert info is not None
        last = info.data_interval
        fired.append(info.run_after.in_timezone("Europe/Berlin").to_datetime_string())
    # Midnight in Berlin, also over the change to summer time.
    assert fired == ["2026-03-28 00:00:00", "2026-03-29 00:00:00", "2026-03-30 00:00:00", "2026-03-31 00:00:00"]
