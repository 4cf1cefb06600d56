"""Typed getters of the ``[metaflow]`` section of Airflow's configuration; read when called."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from airflow_provider_metaflow._compat import conf
from metaflow_orchestration.cache import DEFAULT_LIMIT_BYTES, Cache

_SECTION = "metaflow"
_WORKER_POD = "AIRFLOW_IS_K8S_EXECUTOR_POD"
"""What the KubernetesExecutor sets in each of its pods."""


def cache_folder() -> Path:
    """Return the folder for compiled manifests and unpacked code packages, by default one in Airflow's home.

    A user who may not write there, e.g. one that Airflow impersonates for a task, gets one in the system's temporary
    folder. Wherever it is, :mod:`~metaflow_orchestration.cache` refuses a folder that is not private.
    """
    configured = conf.get(_SECTION, "cache_folder", fallback="")
    if configured:
        return Path(configured).expanduser()
    home = Path(os.environ.get("AIRFLOW_HOME") or "~/airflow").expanduser()
    own = f"metaflow-cache-{os.geteuid()}"
    existing = next((folder for folder in (home, *home.parents) if folder.exists()), home)
    return home / own if os.access(existing, os.W_OK) else Path(tempfile.gettempdir()) / f"airflow-{own}"


def cache() -> Cache:
    """Return the cache of compiled manifests and unpacked code packages."""
    limit = conf.getint(_SECTION, "cache_limit_megabytes", fallback=DEFAULT_LIMIT_BYTES // 1024**2)
    return Cache(cache_folder(), limit * 1024**2)


def python() -> str:
    """Return the interpreter of steps and of the compiler."""
    return conf.get(_SECTION, "python", fallback="") or sys.executable


def warm_process() -> bool:
    """Return whether a process with Metaflow imported is kept between tasks.

    By default it is, but in a worker pod of the KubernetesExecutor: no task comes after this one.
    """
    if conf.get(_SECTION, "warm_process", fallback=""):
        return conf.getboolean(_SECTION, "warm_process")
    return _WORKER_POD not in os.environ


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
