"""Typed getters of the ``[metaflow]`` section of Airflow's configuration; read when called."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from airflow_provider_metaflow._compat import conf

_SECTION = "metaflow"


def cache_folder() -> Path:
    """Return the folder for compiled manifests and unpacked code packages."""
    configured = conf.get(_SECTION, "cache_folder", fallback="")
    if configured:
        return Path(configured).expanduser()
    return Path(tempfile.gettempdir()) / f"airflow-metaflow-cache-{os.getuid()}"


def python() -> str:
    """Return the interpreter of steps and of the compiler."""
    return conf.get(_SECTION, "python", fallback="") or sys.executable


def warm_process() -> bool:
    """Return whether a process with Metaflow imported is kept between tasks."""
    return conf.getboolean(_SECTION, "warm_process", fallback=True)


def warm_process_idle_seconds() -> float:
    """Return after how long without a task a warm process exits."""
    return conf.getfloat(_SECTION, "warm_process_idle_seconds", fallback=60.0)


def ui_url() -> str:
    """Return the address of the Metaflow UI without a slash at its end; empty if there is none."""
    configured = conf.get(_SECTION, "ui_url", fallback="") or os.environ.get("METAFLOW_UI_URL", "")
    return str(configured).rstrip("/")


def max_map_length() -> int:
    """Return how many instances Airflow lets a task be mapped to."""
    return conf.getint("core", "max_map_length", fallback=1024)
