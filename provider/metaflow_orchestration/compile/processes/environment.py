"""The environment of the processes that compile."""

from __future__ import annotations

import contextlib
import os
import tempfile


def child_environment() -> dict[str, str]:
    """Return the environment that a flow is compiled in."""
    environment = dict(os.environ)
    # Airflow often runs as a user without a name; Metaflow refuses to deploy as root or nobody.
    environment.setdefault("METAFLOW_USER", environment.get("USER") or "airflow")
    # Metaflow's S3 client makes its files in the working folder: that of the flow, where often nobody may write.
    with contextlib.suppress(FileNotFoundError):
        environment.setdefault("METAFLOW_TEMPDIR", tempfile.gettempdir())
    return environment
