"""Whom a run's end is told, and what keeps nobody else from being told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_provider_metaflow.notifications.run import MetaflowRunNotifier
from airflow_provider_metaflow.rest.notify import own_connections, resolve_notifications
from metaflow_orchestration.documents.manifest import Notifications
from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.identity import airflow_run_id

CONTEXT: Any = {"dag": DAG("d", schedule=None), "run_id": "r"}
RUN = f"F/{airflow_run_id('d', 'r')}"
OPTIONS: dict[str, Any] = {
    "notify_on_error": True,
    "notify_on_success": False,
    "notify_slack_conn_id": None,
    "notify_slack_webhook_url": None,
    "notify_pager_duty_conn_id": None,
    "notify_pager_duty_integration_key": None,
    "notify_incident_io_conn_id": None,
    "notify_incident_io_api_key": None,
    "incident_io_alert_source_config_id": None,
    "incident_io_metadata": (),
}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """What PagerDuty's client would send; the address is fixed and out of reach."""
    import pagerduty

    got: list[tuple[str, Any]] = []
    for name in ("send_event", "send_change_event"):
        monkeypatch.setattr(
            pagerduty.EventsApiV2Client, name, lambda self, _name=name, **data: got.append((_name, data)) or "key"
        )
    monkeypatch.setenv("AIRFLOW_CONN_PD", json.dumps({"conn_type": "pagerduty_events", "password": "k"}))
    return got


def test_a_failure_is_an_incident_of_pagerduty_and_a_success_a_change(sent: list[tuple[str, Any]]) -> None:
    MetaflowRunNotifier(flow="F", on_success=False, endpoints=Notifications(pager_duty="pd"))(CONTEXT)
    MetaflowRunNotifier(flow="F", on_success=True, endpoints=Notifications(pager_duty="pd"))(CONTEXT)
    (first, incident), (second, change) = sent
    assert (first, second) == ("send_event", "send_change_event")
    assert incident["dedup_key"] == RUN
    assert incident["payload"]["severity"] == "critical"
    assert f"Metaflow run {RUN} failed!" in incident["payload"]["summary"]
    assert f"Metaflow run {RUN} succeeded!" in change["payload"]["summary"]


@pytest.mark.parametrize(
    ("reported", "shown"), [(f"{RUN[2:]}-2", f"{RUN}-2"), ("airflow-x", RUN), (None, RUN), (OSError("gone"), RUN)]
)
def test_the_run_of_a_dag_run_that_was_made_again_is_named(
    sent: list[tuple[str, Any]], reported: Any, shown: str
) -> None:
    class Instance:
        def xcom_pull(self, **asked: Any) -> Any:
            assert asked == {"task_ids": "first", "key": "metaflow_run", "map_indexes": -1}
            if isinstance(reported, OSError):
                raise reported
            return reported

    notifier = MetaflowRunNotifier(flow="F", on_success=False, endpoints=Notifications(pager_duty="pd"), start="first")
    notifier({**CONTEXT, "ti": Instance()})
    ((_, incident),) = sent
    assert incident["dedup_key"] == shown


def test_one_endpoint_that_fails_keeps_no_other_from_being_told(
    sent: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    address = "http://127.0.0.1:9/services/slack-secret"
    monkeypatch.setenv("AIRFLOW_CONN_SLACK", json.dumps({"conn_type": "slackwebhook", "password": address}))
    both = Notifications(slack="slack", pager_duty="pd")
    MetaflowRunNotifier(flow="F", on_success=False, endpoints=both)(CONTEXT)
    assert [name for name, _ in sent] == ["send_event"]
    logged = "".join(capfd.readouterr())
    assert f"The report to Slack on {RUN} could not be sent" in logged
    assert "slack-secret" not in logged


def test_notifications_without_anybody_to_tell_or_half_an_endpoint_are_refused() -> None:
    def resolve(**given: Any) -> Notifications | None:
        return resolve_notifications("F", "d", {**OPTIONS, **given}, lambda: pytest.fail("no secret was given"))

    with pytest.raises(InvalidOptionError, match=r"no recipient is given.*conn-id"):
        resolve()
    with pytest.raises(InvalidOptionError, match=r"alerts of incident\.io need an alert source"):
        resolve(notify_incident_io_conn_id="i")
    with pytest.raises(InvalidOptionError, match="KEY=VALUE"):
        resolve(notify_slack_conn_id="s", incident_io_metadata=("team",))
    assert resolve(notify_on_error=False) is None
    found = resolve(notify_slack_conn_id="s")
    assert found == Notifications(on_error=True, slack="s")
    # Not ours to delete.
    assert own_connections("d", found) == []
    assert own_connections("d", Notifications(slack="metaflow.d.slack")) == ["metaflow.d.slack"]
