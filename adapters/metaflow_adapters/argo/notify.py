"""Whom a deployment tells of its runs. Addresses and keys stand in a Kubernetes secret, nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_metaflow.exceptions import InvalidOptionError
from airflow_provider_metaflow.flow.manifest import Notifications
from airflow_provider_metaflow.flow.notify_options import alert_metadata, check_alert_source

from .hooks import KEYS
from .metadata import notify_secret

_OPTIONS = {
    "slack": "notify_slack_webhook_url",
    "pager_duty": "notify_pager_duty_integration_key",
    "incident_io": "notify_incident_io_api_key",
}


def read_notifications(
    flow: str, deployment: str, options: Mapping[str, Any]
) -> tuple[Notifications | None, dict[str, str]]:
    """Return whom to tell, and the content of the secret that says how.

    :param flow: name of the flow.
    :param deployment: name of the deployment.
    :param options: values of the ``--notify-…`` and ``--incident-io-…`` options by name.
    :raises InvalidOptionError: if nobody is named, or what is given is incomplete.
    """
    on_error, on_success = options["notify_on_error"], options["notify_on_success"]
    if not (on_error or on_success):
        return None, {}
    given = {endpoint: options[option] for endpoint, option in _OPTIONS.items() if options[option]}
    existing = options["notify_secret"]
    if given and existing:
        raise InvalidOptionError("it names a secret and gives the content of one.", flow=flow, hint="Give one of them.")
    if not given and not existing:
        raise InvalidOptionError(
            "it asks for notifications but names nobody to tell.",
            flow=flow,
            hint="Give --notify-slack-webhook-url, --notify-pager-duty-integration-key, --notify-incident-io-api-key, "
            f"or --notify-secret with a Kubernetes secret that has the keys {', '.join(KEYS.values())}.",
        )
    source = options["incident_io_alert_source_config_id"]
    if "incident_io" in given:
        check_alert_source(flow, source)
    secret = existing or notify_secret(deployment)
    told = Notifications(
        on_error=on_error,
        on_success=on_success,
        incident_io_source=source,
        incident_io_metadata=alert_metadata(flow, options["incident_io_metadata"]),
        **{endpoint: secret for endpoint in KEYS if existing or endpoint in given},
    )
    return told, {KEYS[endpoint]: value for endpoint, value in given.items()}
