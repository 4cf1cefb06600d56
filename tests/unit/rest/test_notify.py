"""Recipients of notifications: secrets become connections of Airflow, and go with the deployment."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.airflow_api import AirflowApi

from airflow_provider_metaflow.rest.client import AirflowClient
from airflow_provider_metaflow.rest.endpoint import Endpoint
from airflow_provider_metaflow.rest.notify import forget_secrets, own_connections, resolve_notifications
from metaflow_orchestration.exceptions import InvalidOptionError

_NONE: dict[str, Any] = {
    "notify_on_error": False, "notify_on_success": False, "notify_slack_conn_id": None,
    "notify_pager_duty_conn_id": None, "notify_incident_io_conn_id": None, "notify_slack_webhook_url": None,
    "notify_pager_duty_integration_key": None, "notify_incident_io_api_key": None,
    "incident_io_alert_source_config_id": None, "incident_io_metadata": (),
}  # fmt: skip


def resolve(api: AirflowApi, **options: Any) -> Any:
    return resolve_notifications("F", "f", {**_NONE, **options}, lambda: AirflowClient(Endpoint(url=api.url)))


def test_nobody_is_told_unless_asked_for(api: AirflowApi) -> None:
    assert resolve(api, notify_slack_webhook_url="https://hooks/x") is None
    assert api.requests == []
    with pytest.raises(InvalidOptionError, match="asks for notifications, but no recipient is given"):
        resolve(api, notify_on_error=True)


def test_a_secret_becomes_a_connection_and_is_nowhere_else(api: AirflowApi) -> None:
    found = resolve(api, notify_on_error=True, notify_slack_webhook_url="https://hooks/s3cret")
    assert (found.slack, found.on_error, found.on_success) == ("metaflow.f.slack", True, False)
    assert "s3cret" not in repr(found)
    held = api.connections["metaflow.f.slack"]
    assert (held["conn_type"], held["password"]) == ("slackwebhook", "https://hooks/s3cret")
    resolve(api, notify_on_error=True, notify_slack_webhook_url="https://hooks/newer")
    assert api.connections["metaflow.f.slack"]["password"] == "https://hooks/newer"
    assert len(api.connections) == 1


def test_a_connection_that_is_named_is_used_as_it_is(api: AirflowApi) -> None:
    found = resolve(api, notify_on_success=True, notify_pager_duty_conn_id="pager")
    assert (found.pager_duty, found.slack) == ("pager", None)
    assert api.requests == []
    assert own_connections("f", found) == []


def test_incident_io_needs_its_alert_source(api: AirflowApi) -> None:
    with pytest.raises(InvalidOptionError):
        resolve(api, notify_on_error=True, notify_incident_io_api_key="k")
    assert api.connections == {}


def test_the_connections_that_a_deployment_has_made_go_with_it(api: AirflowApi, client: AirflowClient) -> None:
    found = resolve(
        api,
        notify_on_error=True,
        notify_slack_webhook_url="x",
        notify_pager_duty_integration_key="y",
        notify_incident_io_conn_id="shared",
        incident_io_alert_source_config_id="source",
    )
    api.connections["shared"] = {}
    del api.connections["metaflow.f.pager_duty"]
    assert list(forget_secrets(client, "f", found)) == ["Removed the connection metaflow.f.slack"]
    assert list(api.connections) == ["shared"]
    assert list(forget_secrets(client, "f", None)) == []
