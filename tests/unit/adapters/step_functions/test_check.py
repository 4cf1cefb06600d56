"""What `check` says of a flow on Step Functions: quotas at a width, prices, roles, and AWS's own cron."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

import msgspec
import pytest

from metaflow_adapters.step_functions import FlowMachine, StepFunctionsOptions
from metaflow_adapters.step_functions.check import StepFunctionsTarget
from metaflow_adapters.step_functions.settings import AwsSettings
from metaflow_orchestration.check.report import Report, Row, State, Topic
from metaflow_orchestration.check.target import check_manifest
from metaflow_orchestration.graph.model import Schedule

Make = Callable[..., FlowMachine]
NOW = datetime(2026, 11, 27, 12, tzinfo=timezone.utc)


def check(made: FlowMachine, *, cron: str | None = None, settings: AwsSettings | None = None) -> Report:
    manifest = made.manifest
    if cron is not None:
        schedule = Schedule(cron=cron, timezone="Europe/Berlin")
        graph = msgspec.structs.replace(manifest.graph, schedule=schedule)
        manifest = msgspec.structs.replace(manifest, graph=graph)
    target = StepFunctionsTarget(StepFunctionsOptions(settings=settings or made.settings))
    return check_manifest(manifest, target, 10, NOW)


def row(report: Report, subject: str) -> Row:
    (found,) = [one for one in report.rows if one.subject == subject]
    return found


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("0 9 ? * 2 *", ["2026-11-30", "2026-12-07"]),
        ("0 9 L * ? *", ["2026-11-30", "2026-12-31"]),
        # The nearest weekday to a Saturday is the Friday before.
        ("0 9 5W * ? *", ["2026-12-04", "2027-01-05"]),
        ("0 9 1 1 ? 2030-2031", ["2030-01-01", "2031-01-01"]),
        ("0 9 * * 1", ["2026-11-30", "2026-12-07"]),
    ],
)
def test_the_next_runs_are_read_from_awss_own_cron(machine: Make, cron: str, expected: list[str]) -> None:
    found = row(check(machine("linear"), cron=cron), "next runs").document
    assert [one[:10] for one in found["next"][:2]] == expected
    assert all(one.endswith("09:00+01:00") for one in found["next"][:2])
    assert found["expression"].startswith("cron(")


def test_a_schedule_of_years_that_are_over_is_a_warning(machine: Make) -> None:
    assert row(check(machine("linear"), cron="0 9 * * ? 2020"), "next runs").state is State.WARNING


def test_roles_that_are_not_configured_are_refused_and_the_cost_is_known_all_the_same(machine: Make) -> None:
    report = check(machine("linear"), settings=AwsSettings(region="eu-west-1"))
    assert not report.is_supported("step-functions")
    (refusal,) = [one for one in report.rows if one.state is State.REFUSED]
    assert refusal.fix == "Set METAFLOW_SFN_IAM_ROLE."
    assert row(report, "state transitions of a run").amount == 3
    assert row(report, "price of 1,000 runs").amount == 0.075


def test_the_statements_of_each_role_that_is_used_are_there_in_full(machine: Make) -> None:
    made = machine("linear")
    report = check(made)
    statements = [one.document for one in report.rows if one.subject.startswith("IAM statement of ")]
    policies = made.resources.policies
    used = [role for role in policies if role != "events"]
    assert statements == [one for role in used for one in policies[role]["Statement"]]
    assert row(report, "trust of jobs").document == made.trust_policies()["jobs"]
    # No rule and no schedule: no role for them.
    assert not any(one.subject == "role events" for one in report.rows)
    assert any(one.subject == "role events" for one in check(made, cron="0 9 * * *").rows)


def test_every_size_is_a_share_of_its_quota(machine: Make) -> None:
    sizes = [one for one in check(machine("nested_foreach")).rows if one.topic is Topic.SIZE]
    assert {"definition", "largest job definition", "policy of deployer", "history of a run"} <= {
        one.subject for one in sizes
    }
    assert all(one.share == one.amount / one.limit for one in sizes if one.amount and one.limit)
