"""The environment of the processes that compile."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

TEMPORARY_FOLDERS = ("METAFLOW_ARTIFACT_LOCALROOT", "METAFLOW_TEMPDIR")


def child_environment() -> dict[str, str]:
    """Return the environment that a flow is compiled in."""
    environment = dict(os.environ)
    environment["METAFLOW_USER"] = user_name(environment)
    for name, folder in temporary_folders(environment).items():
        environment.setdefault(name, folder)
    return environment


def user_name(environment: Mapping[str, str], default: str = "airflow") -> str:
    """Return the user name for Metaflow, which does not accept root; Airflow often runs as root, or without a name.

    :param environment: the environment of the process (``metaflow.util.get_username``).
    :param default: a name for somebody without one.
    """
    given = (environment.get(name) for name in ("METAFLOW_USER", "USER"))
    return next((name for name in given if name and name != "root"), default)


def temporary_folders(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of Metaflow for where its clients of object stores make temporary files.

    By default that is the working folder of the process: the flow's, or the root of the machine, where often nobody
    may write (``metaflow.metaflow_config``: TEMPDIR, ARTIFACT_LOCALROOT).

    :param environment: the environment of the process, which names Metaflow's configuration.
    """
    try:
        folder = tempfile.gettempdir()
    except FileNotFoundError:
        # What is compiled is read without them.
        return {}
    chosen = _configured(configuration_file(environment))
    return {name: folder for name in TEMPORARY_FOLDERS if name not in chosen}


def configuration_file(environment: Mapping[str, str]) -> Path:
    """Return Metaflow's configuration file, which may not be there (``metaflow.metaflow_config_funcs.init_config``).

    :param environment: the environment of the process that reads it.
    """
    home = os.path.expanduser(environment.get("METAFLOW_HOME") or "~/.metaflowconfig")  # noqa: PTH111  (no home: no error)
    profile = environment.get("METAFLOW_PROFILE")
    return Path(home, f"config_{profile}.json" if profile else "config.json")


@cache
def _configured(file: Path) -> frozenset[str]:
    """Return the names that a configuration file sets; a variable would win over them."""
    try:
        return frozenset(json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError):
        # Metaflow says what is wrong with it.
        return frozenset()
