"""Templates for parameters of a flow, rendered by Airflow's own task runner: which, with what, and what is said."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from tests.support.task_runs import FlowRun, MemoryMetaflow

from airflow_provider_metaflow import MetaflowTaskGroup
from metaflow_orchestration.documents.manifest import Manifest, encode_manifest

MakeDag = Callable[..., DAG]

DATE_NAMES = (
    "data_interval_end",
    "data_interval_start",
    "ds",
    "ds_nodash",
    "logical_date",
    "ts",
    "ts_nodash",
    "ts_nodash_with_tz",
)
ALL_DATES = " ".join(f"{{{{ {name} }}}}" for name in DATE_NAMES)


def values(metaflow: MemoryMetaflow) -> dict[str, str]:
    return dict(metaflow.parameters[-1] or {})


@pytest.fixture
def unfit() -> str:
    return "{{ day_of_the_moon }}"


def test_a_run_without_a_logical_date_has_the_dates_of_the_time_from_which_on_it_may_start(
    make_dag: MakeDag, metaflow: MemoryMetaflow
) -> None:
    """Such a run is triggered without one, by an asset or a resume; Airflow defines no dates for it."""
    seen = {}
    for day in (datetime(2026, 1, 1, tzinfo=timezone.utc), None):
        FlowRun(make_dag("grouped", parameters={"text": ALL_DATES}), logical_date=day).run_all("start")
        seen[day] = values(metaflow)["text"]
    # `run_after` of these runs is the same moment.
    assert len(set(seen.values())) == 1
    assert "2026-01-01 20260101 " in seen[None]
    assert seen[None].endswith("20260101T000000 20260101T000000+0000")


def test_dates_can_be_reckoned_with_in_a_run_without_a_logical_date(
    make_dag: MakeDag, metaflow: MemoryMetaflow
) -> None:
    template = "{{ data_interval_end.add(days=-1) | ds }} {{ macros.ds_add(ds, 3) }}"
    FlowRun(make_dag("grouped", parameters={"text": template}), logical_date=None).run_all("start")
    assert values(metaflow)["text"] == "2025-12-31 2026-01-04"


def test_a_logical_date_wins_over_the_time_from_which_on_a_run_may_start(
    make_dag: MakeDag, metaflow: MemoryMetaflow
) -> None:
    day = datetime(2025, 7, 8, tzinfo=timezone.utc)
    FlowRun(make_dag("grouped", parameters={"text": "{{ ds }}"}), logical_date=day).run_all("start")
    assert values(metaflow)["text"] == "2025-07-08"


@pytest.mark.parametrize("day", [None, datetime(2026, 1, 1, tzinfo=timezone.utc)])
def test_a_template_is_not_rendered_if_the_run_is_started_with_a_value(
    make_dag: MakeDag, metaflow: MemoryMetaflow, unfit: str, day: datetime | None
) -> None:
    run = FlowRun(make_dag("grouped", parameters={"text": unfit}), conf={"text": "mine"}, logical_date=day)
    run.run_all("start")
    assert values(metaflow)["text"] == "mine"


def test_a_template_is_not_rendered_if_an_event_brings_the_value(
    make_dag: MakeDag, metaflow: MemoryMetaflow, unfit: str
) -> None:
    event = ("x-metaflow-event://tests.OnEventFlow", {"id": "7", "size": 1.5, "text": "told", "table": {}})
    dag = make_dag("events/on_event", parameters={"text": unfit, "untouched": "{{ ds_nodash }}"})
    FlowRun(dag, events=[event], logical_date=None).run_all("start")
    assert (values(metaflow)["text"], values(metaflow)["untouched"]) == ("told", "20260101")


def test_null_for_a_parameter_without_a_template_is_a_value_also_beside_one_with_a_template(
    make_dag: MakeDag, metaflow: MemoryMetaflow
) -> None:
    """The flow's default took its place as soon as another parameter had a template."""
    dag = make_dag("files/parameters", parameters={"late": "{{ ds }}"})
    FlowRun(dag, conf={"required": "x", "text": None}, logical_date=None).run_all("start")
    assert values(metaflow)["late"] == "2026-01-01"
    assert "text" not in values(metaflow)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("on {{ day_of_the_moon }}", "'day_of_the_moon' is undefined"),
        ("{{ prev_data_interval_end_success }}", "'prev_data_interval_end_success' is undefined"),
        ("{{ ds", "unexpected end of template"),
    ],
)
def test_a_template_that_cannot_be_rendered_fails_the_run_at_once_and_says_what_to_do(
    make_dag: MakeDag, metaflow: MemoryMetaflow, template: str, said: str
) -> None:
    dag = make_dag("grouped", parameters={"text": template}, default_args={"retries": 3})
    ended = FlowRun(dag, logical_date=None).run("start")
    assert ended == "failed"
    text = str(ended.error)
    assert text.startswith(f"flow GroupedFlow: the template {template!r} for parameter 'text' cannot be rendered:")
    assert said in text
    assert "start the run with a value for the parameter" in text
    assert ("run_after: data_interval_end, data_interval_start, ds, " in text) == ("undefined" in said)
    assert metaflow.calls == []


def test_templates_inside_a_larger_dag_follow_the_same_rules(
    compiled: Callable[..., Manifest], tmp_path: Path, metaflow: MemoryMetaflow
) -> None:
    path = tmp_path / "grouped.metaflow.json"
    path.write_bytes(encode_manifest(compiled("grouped")))

    def dag(value: Any) -> DAG:
        with DAG("around", schedule=None) as around:
            MetaflowTaskGroup(path, "flow", parameters={"text": value})
        return around

    FlowRun(dag("{{ ds }} {{ run_id }}"), logical_date=None).run_all("flow.start")
    assert values(metaflow)["text"] == "2026-01-01 manual__1"
    ended = FlowRun(dag("{{ nowhere }}"), dag_run_id="manual__2").run("flow.start")
    assert ended == "failed"
    assert "flow GroupedFlow: the template '{{ nowhere }}' for parameter 'text'" in str(ended.error)
