"""Ending a run through Airflow's API, from a worker."""

from __future__ import annotations

import logging

import pytest
from tests.support.airflow_api import airflow_api

from airflow_provider_metaflow.hooks.cancel import cancel_dag_run


@pytest.mark.parametrize(("state", "after"), [("running", "failed"), ("queued", "failed"), ("success", "success")])
def test_a_run_that_goes_on_is_ended_and_one_that_has_ended_is_left(
    monkeypatch: pytest.MonkeyPatch, state: str, after: str
) -> None:
    with airflow_api() as api:
        monkeypatch.setenv("METAFLOW_AIRFLOW_URL", api.url)
        api.add_dag("d")
        api.add_run("d", "r", state)
        assert cancel_dag_run("d", "r") is True
        assert api.runs["d"][0]["state"] == after
        assert cancel_dag_run("d", "gone") is True


def test_what_keeps_a_run_from_being_ended_is_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("METAFLOW_AIRFLOW_URL", raising=False)
    with caplog.at_level(logging.WARNING):
        assert cancel_dag_run("d", "r") is False
    assert "The run r of d is still running, it could not be ended: METAFLOW_AIRFLOW_URL is not set." in caplog.text
