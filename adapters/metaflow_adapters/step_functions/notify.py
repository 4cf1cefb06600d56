"""Whom a deployment tells of its runs. Addresses and keys stand in AWS Secrets Manager, nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_metaflow.exceptions import InvalidOptionError
from airflow_provider_metaflow.flow.manifest import Notifications
from airflow_provider_metaflow.flow.notify_options import alert_metadata, check_alert_source

from .after import SECRET_KEYS
from .aws import Aws
from .secrets import save_secret

UNKNOWN_SECRET = "${NotifySecretArn}"  # noqa: S105  (a placeholder)

_OPTIONS = {
    "slack": "notify_slack_webhook_url",
    "pager_duty": "notify_pager_duty_integration_key",
    "incident_io": "notify_incident_io_api_key",
}


def read_notifications(flow: str, machine: str, options: Mapping[str, Any], aws: Aws | None) -> Notifications | None:
    """Return whom to tell, and save the secrets that say how.

    :param flow: name of the flow.
    :param machine: name of the state machine.
    :param options: values of the ``--notify-…`` and ``--incident-io-…`` options by name.
    :param aws: clients of AWS; None where nothing is deployed, and so nothing saved.
    :raises InvalidOptionError: if nobody is named, or what is given is incomplete.
    """
    on_error, on_success = options["notify_on_error"], options["notify_on_success"]
    if not (on_error or on_success):
        return None
    given = {endpoint: options[option] for endpoint, option in _OPTIONS.items() if options[option]}
    existing, topic = options["notify_secret"], options["notify_sns_topic"]
    if given and existing:
        raise InvalidOptionError("it names a secret and gives the content of one.", flow=flow, hint="Give one of them.")
    if not (given or existing or topic):
        raise InvalidOptionError(
            "it asks for notifications but names nobody to tell.",
            flow=flow,
            hint="Give --notify-sns-topic, --notify-slack-webhook-url, --notify-pager-duty-integration-key, "
            "--notify-incident-io-api-key, or --notify-secret with a secret of AWS Secrets Manager that has the keys "
            f"{', '.join(SECRET_KEYS.values())}.",
        )
    source = options["incident_io_alert_source_config_id"]
    if "incident_io" in given:
        check_alert_source(flow, source)
    metadata = alert_metadata(flow, options["incident_io_metadata"])
    secret = existing
    if given:
        content = {SECRET_KEYS[endpoint]: value for endpoint, value in given.items()}
        secret = save_secret(aws, machine, content) if aws is not None else UNKNOWN_SECRET
    return Notifications(
        on_error=on_error,
        on_success=on_success,
        incident_io_source=source,
        incident_io_metadata=metadata,
        sns_topic=topic,
        **{endpoint: secret for endpoint in SECRET_KEYS if existing or endpoint in given},
    )
