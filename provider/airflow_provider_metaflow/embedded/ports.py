"""Where the processes of an embedded Airflow listen, and how they reach each other."""

from __future__ import annotations

import os
import socket


def no_proxy() -> dict[str, str]:
    """Return the variables by which its processes reach each other without the proxy of ``http_proxy``."""
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = ",".join([*filter(None, given.split(",")), "127.0.0.1", "localhost"])
    return {"no_proxy": hosts, "NO_PROXY": hosts}


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
