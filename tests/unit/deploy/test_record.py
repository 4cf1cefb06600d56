"""What a deployed DAG tells about itself survives its documentation, and nothing else is read from there."""

from __future__ import annotations

from collections.abc import Callable

from airflow_provider_metaflow.deploy.record import from_markdown, record_of
from airflow_provider_metaflow.plan.record import record_line
from metaflow_orchestration.documents.manifest import Manifest


def test_a_record_is_read_back_from_the_documentation_of_the_dag(compiled: Callable[..., Manifest]) -> None:
    record = record_of(compiled("files/parameters"))
    text = f"### Title\n\nSome words.\n\n{record_line(compiled('files/parameters'))}"
    assert from_markdown(text) == record
    assert {"number", "ratio", "with-dash"} <= {one.name for one in record.parameters}
    # Defaults may be large or private.
    assert {one.default for one in record.parameters} == {None}


def test_two_deployments_differ_by_their_digest(compiled: Callable[..., Manifest]) -> None:
    first, second = record_of(compiled("linear")), record_of(compiled("linear", "--tag", "x"))
    assert first.digest != second.digest
    assert first.digest == record_of(compiled("linear")).digest


def test_documentation_without_a_record_or_with_a_broken_one_is_none(compiled: Callable[..., Manifest]) -> None:
    line = record_line(compiled("linear"))
    assert from_markdown(None) is None
    assert from_markdown("### Title") is None
    assert from_markdown(line.replace("base64,", "base64,AAAA")) is None
