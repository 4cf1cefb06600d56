"""Whom a deployment on Argo tells of its runs."""

from __future__ import annotations

from typing import Any

import pytest

from metaflow_adapters.argo.notify import read_notifications
from metaflow_orchestration.exceptions import InvalidOptionError

NOTHING: dict[str, Any] = {
    "notify_on_error": False,
    "notify_on_success": False,
    "notify_slack_webhook_url": None,
    "notify_pager_duty_integration_key": None,
    "notify_incident_io_api_key": None,
    "notify_secret": None,
    "incident_io_alert_source_config_id": None,
    "incident_io_metadata": (),
}


def test_secrets_go_into_a_kubernetes_secret_and_not_into_the_manifest() -> None:
    told, secret = read_notifications(
        "F", "f", {**NOTHING, "notify_on_error": True, "notify_slack_webhook_url": "https://hush"}
    )
    assert told is not None
    assert (told.slack, told.pager_duty) == ("f-notify", None)
    assert "hush" not in repr(told)
    assert secret == {"SLACK": "https://hush"}


def test_a_secret_that_exists_is_only_named() -> None:
    told, secret = read_notifications("F", "f", {**NOTHING, "notify_on_success": True, "notify_secret": "ours"})
    assert told is not None
    assert {told.slack, told.pager_duty, told.incident_io} == {"ours"}
    assert secret == {}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "no recipient is given"),
        ({"notify_incident_io_api_key": "k"}, "need an alert source"),
        ({"notify_slack_webhook_url": "u", "incident_io_metadata": ("a=1", "a=2")}, "its key was given before"),
        ({"notify_slack_webhook_url": "u", "notify_secret": "ours"}, "Give one of them"),
    ],
)
def test_what_is_incomplete_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidOptionError, match=told):
        read_notifications("F", "f", {**NOTHING, "notify_on_error": True, **options})
