"""The environment of the processes that compile."""

from __future__ import annotations

import os
import tempfile

TEMPORARY_FOLDERS = ("METAFLOW_ARTIFACT_LOCALROOT", "METAFLOW_TEMPDIR")


def child_environment() -> dict[str, str]:
    """Return the environment that a flow is compiled in."""
    environment = dict(os.environ)
    # Airflow often runs as a user without a name; Metaflow refuses to deploy as root or nobody.
    environment.setdefault("METAFLOW_USER", environment.get("USER") or "airflow")
    for name, folder in temporary_folders().items():
        environment.setdefault(name, folder)
    return environment


def temporary_folders() -> dict[str, str]:
    """Return the variables of Metaflow for where its clients of object stores make temporary files.

    By default that is the working folder of the process: the flow's, or the root of the machine, where often nobody
    may write (``metaflow.metaflow_config``: TEMPDIR, ARTIFACT_LOCALROOT).
    """
    try:
        return dict.fromkeys(TEMPORARY_FOLDERS, tempfile.gettempdir())
    except FileNotFoundError:
        # What is compiled is read without them.
        return {}
