from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

import msgspec
import pytest
from croniter import croniter

from metaflow_adapters.step_functions import FlowMachine
from metaflow_adapters.step_functions.emit.schedule import aws_cron
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.model import Schedule


@pytest.mark.parametrize(
    ("cron", "aws"),
    [
        ("0 9 * * *", "0 9 * * ? *"),
        ("*/5 1,2 * * 1-5", "*/5 1,2 ? * 2,3,4,5,6 *"),
        ("0 0 * * 0", "0 0 ? * 1 *"),
        ("0 0 * * 7", "0 0 ? * 1 *"),
        ("0 0 * * MON-FRI", "0 0 ? * MON-FRI *"),
        ("0 0 1 */2 *", "0 0 1 */2 ? *"),
        ("0 10 * * ? *", "0 10 * * ? *"),
        ("0 10 ? * 6L 2030", "0 10 ? * 6L 2030"),
    ],
)
def test_plain_crons_are_converted_and_those_of_aws_stay(cron: str, aws: str) -> None:
    assert aws_cron(Schedule(cron=cron), "Flow") == aws


def test_converted_weekdays_are_the_same_days() -> None:
    for field in ("1-5", "0", "2,4", "*/2", "6-7", "1-7/3"):
        aws = aws_cron(Schedule(cron=f"0 0 * * {field}"), "Flow").split()[4]
        numbers = {int(one) - 1 for one in aws.split(",")}
        days = croniter(f"0 0 * * {field}", datetime(2026, 1, 1, tzinfo=timezone.utc)).all_next(datetime)
        found = {next(days).isoweekday() % 7 for _ in range(30)}
        assert numbers == found


@pytest.mark.parametrize(
    ("cron", "told"),
    [
        ("0 0 1 * 1", "AWS takes one of them"),
        ("0 0 * * * *", "must be \\?"),
        ("0 0 ? * ? *", "must be \\?"),
        ("0 0 * * ? * *", "cannot be read"),
        ("0 0; * * ? *", "is no field of it"),
        ("never", "cannot be read"),
    ],
)
def test_what_aws_cannot_say_is_refused(cron: str, told: str) -> None:
    with pytest.raises(InvalidOptionError, match=told):
        aws_cron(Schedule(cron=cron), "Flow")


def scheduled(**changed: object) -> Callable[[Manifest], Manifest]:
    def change(manifest: Manifest) -> Manifest:
        replace = msgspec.structs.replace
        return replace(manifest, graph=replace(manifest.graph, **changed))

    return change


def test_the_schedule_has_a_timezone(machine: Callable[..., FlowMachine]) -> None:
    schedule = Schedule(cron="0 9 * * *", timezone="Asia/Tokyo")
    (made,) = machine("linear", change=scheduled(schedule=schedule)).resources.schedules
    assert (made["ScheduleExpression"], made["ScheduleExpressionTimezone"]) == ("cron(0 9 * * ? *)", "Asia/Tokyo")
    assert made["Target"]["Arn"].endswith(":stateMachine:linear")


def test_an_unknown_timezone_is_refused(machine: Callable[..., FlowMachine]) -> None:
    with pytest.raises(InvalidOptionError, match="no known timezone"):
        machine("linear", change=scheduled(schedule=Schedule(cron="0 9 * * *", timezone="Mars/Phobos")))
