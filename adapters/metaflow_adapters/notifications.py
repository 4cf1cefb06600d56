"""Recipients of the notifications of a deployment, whose addresses and keys are in a secret of the orchestrator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metaflow_orchestration.compile.notify_options import alert_metadata, check_alert_source
from metaflow_orchestration.documents.manifest import Notifications
from metaflow_orchestration.exceptions import InvalidOptionError

KEYS = {"slack": "SLACK", "pager_duty": "PAGER_DUTY", "incident_io": "INCIDENT_IO"}
"""Keys of the secret, by endpoint."""

VARIABLE_PREFIX = "METAFLOW_NOTIFY_"
"""The container that notifies them has each key in a variable of that prefix (``side_task.py`` of the extension)."""

_OPTIONS = {
    "slack": "notify_slack_webhook_url",
    "pager_duty": "notify_pager_duty_integration_key",
    "incident_io": "notify_incident_io_api_key",
}


def is_asked(options: Mapping[str, Any]) -> bool:
    """Return whether there are recipients.

    :param options: values of the ``--notify-…`` options by name.
    """
    return bool(options["notify_on_error"] or options["notify_on_success"])


def given_endpoints(flow: str, options: Mapping[str, Any], hint: str, *others: Any) -> dict[str, str]:
    """Return the addresses and keys that the user gave, by endpoint.

    :param flow: name of the flow.
    :param options: values of the ``--notify-…`` and ``--incident-io-…`` options by name.
    :param hint: what may be given, for the error.
    :param others: further ways to notify, of the orchestrator's own.
    :raises InvalidOptionError: if nobody is named, or what is given is incomplete.
    """
    given = {endpoint: options[option] for endpoint, option in _OPTIONS.items() if options[option]}
    existing = options["notify_secret"]
    if given and existing:
        raise InvalidOptionError("it names a secret and gives the content of one.", flow=flow, hint="Give one of them.")
    if not (given or existing or any(others)):
        raise InvalidOptionError("it asks for notifications, but no recipient is given.", flow=flow, hint=hint)
    if "incident_io" in given:
        check_alert_source(flow, options["incident_io_alert_source_config_id"])
    return given


def notifications_of(
    flow: str, options: Mapping[str, Any], given: Mapping[str, str], secret: str | None, **others: Any
) -> Notifications:
    """Return the recipients of notifications.

    :param flow: name of the flow.
    :param options: as for :func:`given_endpoints`.
    :param given: what that has returned.
    :param secret: name of the secret with their addresses and keys.
    :param others: further fields.
    """
    return Notifications(
        on_error=options["notify_on_error"],
        on_success=options["notify_on_success"],
        incident_io_source=options["incident_io_alert_source_config_id"],
        incident_io_metadata=alert_metadata(flow, options["incident_io_metadata"]),
        **{endpoint: secret for endpoint in KEYS if options["notify_secret"] or endpoint in given},
        **others,
    )


def secret_content(given: Mapping[str, str]) -> dict[str, str]:
    """Return the content of the secret.

    :param given: addresses and keys by endpoint.
    """
    return {KEYS[endpoint]: value for endpoint, value in given.items()}


def notified_endpoints(notifications: Notifications | None) -> dict[str, str]:
    """Return the name of the secret by the key in it, for each endpoint that is notified.

    :param notifications: recipients of notifications, None without any.
    """
    secrets = {key: getattr(notifications, endpoint, None) for endpoint, key in KEYS.items()}
    return {key: secret for key, secret in secrets.items() if secret}
