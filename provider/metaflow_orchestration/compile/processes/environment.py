"""The environment of the processes that compile."""

from __future__ import annotations

import os


def child_environment() -> dict[str, str]:
    """Return the environment that a flow is compiled in."""
    environment = dict(os.environ)
    # Airflow often runs as a user without a name; Metaflow refuses to deploy as root or nobody.
    environment.setdefault("METAFLOW_USER", environment.get("USER") or "airflow")
    return environment
