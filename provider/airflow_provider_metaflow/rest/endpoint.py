"""Where Airflow's REST API is and how to log in, from Metaflow's configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from metaflow_orchestration.exceptions import InvalidOptionError


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An Airflow. Of the ways to log in, the first that is given is used; secrets never show in a ``repr``.

    :param url: address of the API server, e.g. ``https://airflow.example.com``.
    :param token: a bearer token.
    :param auth_command: a command that prints a bearer token; run again when a token has expired.
    :param username: for ``POST /auth/token``.
    :param password: for the same.
    :param verify: whether TLS certificates are checked.
    :param ca_file: file of certificates to trust.
    :param timeout: limit of one request, in seconds.
    :param patience: how long to try a request again that meets an error which may pass, in seconds.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    auth_command: str | None = field(default=None, repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    verify: bool = True
    ca_file: str | None = None
    timeout: float = 30.0
    patience: float = 60.0


def configured_endpoint(get: Callable[[str], str | None]) -> Endpoint:
    """Return the Airflow that ``METAFLOW_AIRFLOW_URL`` and its kin name.

    :param get: returns a value by name without ``METAFLOW_``.
    :raises InvalidOptionError: if the URL is not set or a value has a wrong form.
    """
    url = get("AIRFLOW_URL")
    if not url:
        raise InvalidOptionError(
            "METAFLOW_AIRFLOW_URL is not set.",
            hint="Set it to the address of its API server, and METAFLOW_AIRFLOW_USERNAME with "
            "METAFLOW_AIRFLOW_PASSWORD, METAFLOW_AIRFLOW_TOKEN, or METAFLOW_AIRFLOW_AUTH_COMMAND to log in.",
        )
    if not url.startswith(("http://", "https://")):
        raise InvalidOptionError(f"METAFLOW_AIRFLOW_URL is {url!r}; it must start with http:// or https://.")
    verify = (get("AIRFLOW_VERIFY") or "true").lower()
    if verify not in ("true", "false", "1", "0"):
        raise InvalidOptionError(
            f"METAFLOW_AIRFLOW_VERIFY is {verify!r}; it must be true or false.",
            hint="Name a file of certificates with METAFLOW_AIRFLOW_CA_FILE.",
        )
    patience = get("AIRFLOW_PATIENCE") or "60"
    if not patience.replace(".", "", 1).isdigit():
        raise InvalidOptionError(f"METAFLOW_AIRFLOW_PATIENCE is {patience!r}; it must be a number of seconds.")
    return Endpoint(
        url=url.rstrip("/").removesuffix("/api/v2"),
        token=get("AIRFLOW_TOKEN"),
        auth_command=get("AIRFLOW_AUTH_COMMAND"),
        username=get("AIRFLOW_USERNAME"),
        password=get("AIRFLOW_PASSWORD"),
        verify=verify in ("true", "1"),
        ca_file=get("AIRFLOW_CA_FILE"),
        patience=float(patience),
    )


def is_this_machine(url: str) -> bool:
    """Return whether an address is one of the machine that asks: a loopback address or its own name.

    :param url: e.g. ``http://localhost:8080``.
    """
    from socket import gethostname
    from urllib.parse import urlsplit

    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1", "0.0.0.0", gethostname()) or host.startswith("127.")  # noqa: S104  (compared)
