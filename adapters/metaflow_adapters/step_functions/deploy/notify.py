"""Recipients of the notifications of a deployment. Addresses and keys stand in AWS Secrets Manager, nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from metaflow_adapters.notifications import KEYS, given_endpoints, is_asked, notifications_of, secret_content
from metaflow_adapters.step_functions.aws.client import Aws
from metaflow_adapters.step_functions.aws.secrets import make_secret, save_secret
from metaflow_adapters.step_functions.plan.names import UNKNOWN_SECRET
from metaflow_orchestration.documents.manifest import Notifications

_HINT = (
    "Give --notify-sns-topic, --notify-slack-webhook-url, --notify-pager-duty-integration-key, "
    "--notify-incident-io-api-key, or --notify-secret with a secret of AWS Secrets Manager that has the keys "
    f"{', '.join(KEYS.values())}."
)


def read_notifications(flow: str, machine: str, options: Mapping[str, Any], aws: Aws | None) -> Notifications | None:
    """Return the recipients of notifications; the secret that says how is made if there is none.

    :param flow: name of the flow.
    :param machine: name of the state machine.
    :param options: values of the ``--notify-…`` and ``--incident-io-…`` options by name.
    :param aws: clients of AWS; None where nothing is deployed, and so nothing saved.
    :raises InvalidOptionError: if nobody is named, or what is given is incomplete.
    """
    if not is_asked(options):
        return None
    topic = options["notify_sns_topic"]
    given = given_endpoints(flow, options, _HINT, topic)
    # Complains of what is wrong before anything is saved.
    notifications = notifications_of(flow, options, given, options["notify_secret"] or UNKNOWN_SECRET, sns_topic=topic)
    if not given or aws is None:
        return notifications
    secret = make_secret(aws, machine, secret_content(given))
    return msgspec.structs.replace(notifications, **dict.fromkeys(given, secret))


def save_endpoints(flow: str, machine: str, options: Mapping[str, Any], aws: Aws) -> None:
    """Save addresses and keys once the deployment is complete: until then the one before reads them.

    :param flow: name of the flow.
    :param machine: name of the state machine.
    :param options: as for :func:`read_notifications`.
    :param aws: clients of AWS.
    """
    given = given_endpoints(flow, options, _HINT, options["notify_sns_topic"]) if is_asked(options) else {}
    if given:
        save_secret(aws, machine, secret_content(given))
