"""Recipients of the notifications of a deployment. Addresses and keys stand in a Kubernetes secret, nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metaflow_adapters.argo.objects.metadata import notify_secret
from metaflow_adapters.notifications import KEYS, given_endpoints, is_asked, notifications_of, secret_content
from metaflow_orchestration.documents.manifest import Notifications

_HINT = (
    "Give --notify-slack-webhook-url, --notify-pager-duty-integration-key, --notify-incident-io-api-key, "
    f"or --notify-secret with a Kubernetes secret that has the keys {', '.join(KEYS.values())}."
)


def read_notifications(
    flow: str, deployment: str, options: Mapping[str, Any]
) -> tuple[Notifications | None, dict[str, str]]:
    """Return the recipients of notifications, and the content of the secret that says how.

    :param flow: name of the flow.
    :param deployment: name of the deployment.
    :param options: values of the ``--notify-…`` and ``--incident-io-…`` options by name.
    :raises InvalidOptionError: if nobody is named, or what is given is incomplete.
    """
    if not is_asked(options):
        return None, {}
    given = given_endpoints(flow, options, _HINT)
    secret = options["notify_secret"] or notify_secret(deployment)
    return notifications_of(flow, options, given, secret), secret_content(given)
