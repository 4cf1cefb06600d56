"""The result of a check: one kind of row, an order, an exit code, and JSON with a version."""

from __future__ import annotations

import json

import pytest

from metaflow_orchestration.check.report import Report, Row, State, Topic, make_report, merged, read_report, sized
from metaflow_orchestration.check.table import render


def row(target: str, topic: Topic = Topic.NAME, state: State = State.OK) -> Row:
    return Row(target=target, topic=topic, subject="name", found="a [bold] name", state=state)


def test_rows_stand_by_topic_and_keep_the_order_of_their_targets() -> None:
    first = make_report("Flow", 3, [row("airflow", Topic.NEED), row("airflow", Topic.SUPPORT)])
    second = make_report("Flow", 3, [row("argo", Topic.SUPPORT)])
    found = merged("Flow", 3, [first, second])
    assert [(one.topic, one.target) for one in found.rows] == [
        (Topic.SUPPORT, "airflow"),
        (Topic.SUPPORT, "argo"),
        (Topic.NEED, "airflow"),
    ]
    assert found.targets == ("airflow", "argo")


@pytest.mark.parametrize(
    ("state", "code", "supported"),
    [(State.OK, 0, True), (State.WARNING, 0, True), (State.EXCEEDED, 1, True), (State.REFUSED, 1, False)],
)
def test_the_exit_code_is_for_ci(state: State, code: int, supported: bool) -> None:
    report = make_report("Flow", 1, [row("argo"), row("argo", state=state)])
    assert (report.exit_code, report.is_supported("argo")) == (code, supported)
    with pytest.raises(KeyError):
        report.is_supported("airflow")


def test_json_holds_the_version_and_is_read_back_as_it_was() -> None:
    report = make_report("Flow", 2, [row("argo"), sized("argo", "workflow", 3, 2, "bytes", fix="Loop less.")])
    text = report.to_json()
    document = json.loads(text)
    assert document["version"] == 1
    assert document["rows"][1]["share"] == 1.5
    assert document["rows"][1]["fix"] == "Loop less."
    assert read_report(text) == report


def test_json_of_another_version_is_refused() -> None:
    text = Report(flow="Flow", width=1, rows=(), version=2).to_json()
    with pytest.raises(ValueError, match="version 2; this release reads version 1"):
        read_report(text)


def test_a_number_within_its_quota_needs_no_fix() -> None:
    assert sized("argo", "workflow", 2, 2, "bytes", fix="Loop less.").fix == ""


def test_a_table_shows_text_of_flows_as_it_is_and_no_empty_column() -> None:
    shown = render(make_report("Flow", 1, [row("argo")]))
    assert "a [bold] name" in shown
    assert "with 1 split in each foreach" in shown
    assert "what to do" not in shown
    refused = Row(target="argo", topic=Topic.SUPPORT, subject="flow", found="no", state=State.REFUSED, fix="Do this.")
    assert "Do this." in render(make_report("Flow", 2, [refused]))
