"""Recipients of reports on runs of a deployment: endpoints are Airflow connections, and secrets never leave them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from metaflow_orchestration.compile.notify_options import alert_metadata, check_alert_source
from metaflow_orchestration.documents.manifest import Notifications
from metaflow_orchestration.exceptions import InvalidOptionError

from .client import AirflowClient
from .connections import delete_connection, save_connection

_KINDS = {
    "slack": ("slack_webhook_url", "slackwebhook"),
    "pager_duty": ("pager_duty_integration_key", "pagerduty_events"),
    "incident_io": ("incident_io_api_key", "http"),
}
"""Per endpoint: the option that gives its secret, and the type of its connection."""


def own_connection(deployment: str, endpoint: str) -> str:
    """Return the id of the connection that ``create`` makes for a secret.

    :param deployment: name of the deployment.
    :param endpoint: ``slack``, ``pager_duty`` or ``incident_io``.
    """
    return f"metaflow.{deployment}.{endpoint}"


def resolve_notifications(
    flow: str, deployment: str, options: Mapping[str, Any], connect: Callable[[], AirflowClient] | None
) -> Notifications | None:
    """Return the recipients, and put secrets that were given into connections of Airflow.

    :param flow: name of the flow.
    :param deployment: name of the deployment.
    :param options: values of the ``--notify-…`` and ``--incident-io-…`` options by name.
    :param connect: returns a client of the Airflow; called if a secret was given. None where nothing is deployed, and
        so nothing saved.
    :raises InvalidOptionError: if nobody is named, or what is given is incomplete.
    """
    on_error, on_success = options["notify_on_error"], options["notify_on_success"]
    ids: dict[str, str | None] = {endpoint: options[f"notify_{endpoint}_conn_id"] for endpoint in _KINDS}
    secrets = {endpoint: options[f"notify_{option}"] for endpoint, (option, _) in _KINDS.items()}
    if not (on_error or on_success):
        return None
    if not any((*ids.values(), *secrets.values())):
        raise InvalidOptionError(
            "it asks for notifications, but no recipient is given.",
            flow=flow,
            hint="Give --notify-slack-conn-id, --notify-pager-duty-conn-id or --notify-incident-io-conn-id, or the "
            "secret itself (--notify-slack-webhook-url …), which becomes a connection of Airflow.",
        )
    if ids["incident_io"] or secrets["incident_io"]:
        check_alert_source(flow, options["incident_io_alert_source_config_id"])
    metadata = alert_metadata(flow, options["incident_io_metadata"])
    for endpoint, secret in secrets.items():
        if secret:
            ids[endpoint] = own_connection(deployment, endpoint)
            if connect is None:
                continue
            with connect() as client:
                text = f"Made by `airflow create` of the Metaflow flow {flow}."
                save_connection(client, str(ids[endpoint]), _KINDS[endpoint][1], password=secret, text=text)
    return Notifications(
        on_error=on_error,
        on_success=on_success,
        incident_io_source=options["incident_io_alert_source_config_id"],
        incident_io_metadata=metadata,
        **ids,
    )


def own_connections(deployment: str, notifications: Notifications | None) -> list[str]:
    """Return the ids of the connections that ``create`` made for a deployment.

    :param deployment: its name.
    :param notifications: its recipients.
    """
    if notifications is None:
        return []
    own = [own_connection(deployment, endpoint) for endpoint in _KINDS]
    return [one for one in own if one in (notifications.slack, notifications.pager_duty, notifications.incident_io)]


def forget_secrets(client: AirflowClient, deployment: str, notifications: Notifications | None) -> Iterator[str]:
    """Delete the connections that ``create`` made; yield what was deleted.

    :param client: the Airflow.
    :param deployment: name of the deployment.
    :param notifications: the recipients that it had.
    """
    for one in own_connections(deployment, notifications):
        if delete_connection(client, one):
            yield f"Removed the connection {one}"
