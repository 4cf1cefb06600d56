"""What `check` says of a flow on Airflow, without Airflow."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import msgspec
import pytest
from tests.support.recorded import KUBERNETES, on_s3

from airflow_provider_metaflow.console.validate import validate_folder
from airflow_provider_metaflow.plan.checked import AirflowTarget, named_in_airflow
from airflow_provider_metaflow.plan.rules import check_deployable
from metaflow_orchestration.check.report import Report, Row, State
from metaflow_orchestration.check.target import check_manifest
from metaflow_orchestration.documents.manifest import Manifest, encode_manifest
from metaflow_orchestration.exceptions import InvalidOptionError, UnsupportedFeatureError
from metaflow_orchestration.graph.model import Decorator, EventTrigger, ExitHook, Schedule
from metaflow_orchestration.run.contexts import packed, split_contexts

Recorded = Callable[[str], Manifest]
NOW = datetime(2026, 11, 27, 12, tzinfo=timezone.utc)


def check(manifest: Manifest, width: int = 10) -> Report:
    return check_manifest(manifest, AirflowTarget(), width, NOW)


def row(report: Report, subject: str) -> Row:
    (found,) = [one for one in report.rows if one.subject == subject]
    return found


@pytest.mark.parametrize("splits", [1, 1024, 1025, 10_000])
def test_a_foreach_is_counted_in_the_task_instances_that_its_splits_really_make(splits: int) -> None:
    assert packed(splits, 1024) == len(split_contexts([((), splits, None, -1)], 1024))


def test_tasks_and_task_instances_of_a_wide_run(recorded: Recorded) -> None:
    report = check(recorded("nested_foreach"), 200)
    inner = row(report, "foreach of fan")
    assert (inner.amount, inner.state) == (40_000, State.OK)
    assert "in 1,000 mapped task instances" in inner.found
    tasks, instances = row(report, "Metaflow tasks of a run"), row(report, "task instances of a run")
    assert tasks.amount is not None
    assert instances.amount is not None
    assert tasks.amount > 10 * instances.amount
    assert check(recorded("nested_foreach"), 1001).exit_code == 1


def test_pools_and_connections_are_named(recorded: Recorded) -> None:
    manifest = on_s3(recorded("decorated/nightly"), "nightly", worker_pool="ml")
    assert list(named_in_airflow(manifest)) == [
        ("pool", "ml"),
        ("connection", "slack-of-team"),
        ("connection", "incidents"),
    ]
    report = check(manifest)
    assert row(report, "pool").found == "ml"
    assert row(report, "next runs").document["timezone"] == "Europe/Berlin"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"triggers": (EventTrigger(event="é" * 300),)}, "makes the name of an asset of 1,8"),
        ({"exit_hooks": (ExitHook(function="f" * 250, on_success=True),)}, "ids of Airflow have 250 at most"),
        ({"schedule": Schedule(cron="0 9 * * *", timezone="Mars/Olympus")}, "no known timezone"),
    ],
)
def test_what_airflow_would_not_import_is_refused_by_create_too(
    recorded: Recorded, change: dict[str, object], reason: str
) -> None:
    manifest = recorded("linear")
    changed = msgspec.structs.replace(manifest, graph=msgspec.structs.replace(manifest.graph, **change))
    (refusal,) = check(changed).rows
    assert refusal.state is State.REFUSED
    assert reason in refusal.found
    assert refusal.fix
    with pytest.raises(InvalidOptionError, match=reason):
        check_deployable(changed)


def test_a_reset_of_events_is_refused_with_its_fix(recorded: Recorded) -> None:
    manifest = recorded("decorated/triggered")
    graph = msgspec.structs.replace(manifest.graph, trigger_reset=Schedule(cron="0 0 * * *"))
    with pytest.raises(UnsupportedFeatureError, match="Remove the option"):
        check_deployable(msgspec.structs.replace(manifest, graph=graph))


@pytest.mark.subprocess
def test_a_check_loads_no_airflow() -> None:
    code = (
        "import sys, airflow_provider_metaflow.plan.checked, metaflow_adapters.argo.check\n"
        "import metaflow_adapters.step_functions.check\n"
        "print([one for one in sys.modules if one == 'airflow' or one.startswith('airflow.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


def test_a_dag_file_that_runs_pods_as_processes_need_not_honour_their_attributes(
    recorded: Recorded, tmp_path: Path
) -> None:
    manifest = on_s3(recorded("decorated/pods"), "pods", name="pods")
    first = manifest.graph.steps[0]
    unheard = Decorator(name="kubernetes", attributes={**KUBERNETES, "unheard_of": "yes"})
    steps = (msgspec.structs.replace(first, decorators=(unheard,)), *manifest.graph.steps[1:])
    changed = msgspec.structs.replace(manifest, graph=msgspec.structs.replace(manifest.graph, steps=steps))
    with pytest.raises(UnsupportedFeatureError, match="unheard_of"):
        check_deployable(changed)
    (tmp_path / "pods.metaflow.json").write_bytes(encode_manifest(changed))
    (tmp_path / "pods.py").write_text(
        'from airflow_provider_metaflow import MetaflowDag\ndag = MetaflowDag("pods.metaflow.json", compute="local")\n'
    )
    found = [one for one in validate_folder(tmp_path) if one.subject in ("pods", "pods.metaflow.json", "pods.py")]
    assert [(one.subject, one.state) for one in found] == [("pods.metaflow.json", "ok"), ("pods", "ok")]
