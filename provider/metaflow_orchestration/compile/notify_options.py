"""What the ``--notify-…`` options of all orchestrators have in common. Free of Metaflow."""

from __future__ import annotations

from collections.abc import Sequence

from metaflow_orchestration.exceptions import InvalidOptionError


def alert_metadata(flow: str, texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the pairs of ``--incident-io-metadata``.

    :param flow: flow to name in an error.
    :param texts: values of the option.
    :raises InvalidOptionError: if one is not of the form ``KEY=VALUE``, or a key is given twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key or key in found:
            raise InvalidOptionError(
                f"--incident-io-metadata {text!r} is not of the form KEY=VALUE, or its key was given before.", flow=flow
            )
        found[key] = value
    return tuple(found.items())


def check_alert_source(flow: str, source: str | None) -> None:
    """Check that alerts of incident.io have a source.

    :param flow: flow to name in the error.
    :param source: ``--incident-io-alert-source-config-id``.
    :raises InvalidOptionError: if there is none.
    """
    if not source:
        raise InvalidOptionError(
            "alerts of incident.io need an alert source.", flow=flow, hint="Set --incident-io-alert-source-config-id."
        )
