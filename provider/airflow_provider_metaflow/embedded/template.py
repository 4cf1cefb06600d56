"""A migrated SQLite database of each Airflow release, kept so that an embedded Airflow starts with a copy of it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import secrets
import sqlite3
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("apache-airflow", "apache-airflow-core", "apache-airflow-providers-fab")
"""Packages whose releases contain migrations."""

_SETTINGS = ("AIRFLOW__DATABASE__", "AIRFLOW__CORE__AUTH_MANAGER")
"""What decides which tables there are, but for where the database is."""


def kept_database(environment: Mapping[str, str]) -> Path:
    """Return where the migrated database is kept for an Airflow of this interpreter, whether or not it is there.

    :param environment: the environment of its processes.
    """
    facts: list[tuple[str, str]] = []
    for name in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            facts.append((name, version(name)))
    facts += sorted((k, v) for k, v in environment.items() if k.startswith(_SETTINGS) and "SQL_ALCHEMY_CONN" not in k)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
    return cache / "airflow-provider-metaflow" / f"airflow-{name}.db"


def make_database(database: Path, environment: Mapping[str, str], migrate: Callable[[], object]) -> None:
    """Make the database of an Airflow, of the kept one if there is one, and keep it if there was none.

    :param database: the file.
    :param environment: the environment of the Airflow's processes.
    :param migrate: runs Airflow's migrations on the file.
    """
    kept = kept_database(environment)
    if not database.exists() and is_migrated(kept) and copy_database(kept, database):
        return
    # SQLite gives its other files the mode of this one.
    database.touch(mode=0o600)
    database.chmod(0o600)
    fresh = database.stat().st_size == 0
    migrate()
    if fresh and is_migrated(database):
        copy_database(database, kept)


def copy_database(source: Path, target: Path) -> bool:
    """Copy an SQLite database whole or not at all; the copy is for its user only.

    :param source: the database; no process need have closed it.
    :param target: the copy.
    :returns: whether there was one that could be copied; a cache that cannot be written or read is none.
    """
    if not source.is_file() or source.stat().st_uid != os.getuid():
        return False
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent)
    except OSError:
        return False
    os.close(handle)
    part = Path(name)
    try:
        with contextlib.closing(sqlite3.connect(source)) as old, contextlib.closing(sqlite3.connect(part)) as new:
            old.backup(new)
        part.replace(target)
    except (OSError, sqlite3.Error):
        part.unlink(missing_ok=True)
        return False
    return True


def is_migrated(database: Path) -> bool:
    """Return whether a file is an SQLite database that Airflow's migrations have come to the end of.

    Alembic writes its table of versions with the migrations themselves; a database that lacks it, such as an empty one,
    must not stand in the cache for a migrated one.

    :param database: the file.
    """
    if not database.is_file():
        return False
    try:
        with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute("SELECT 1 FROM alembic_version").fetchone() is not None
    except sqlite3.Error:
        return False


def write_configuration(home: Path) -> None:
    """Write an ``airflow.cfg`` with a Fernet key, which processes that start side by side would each write otherwise.

    :param home: folder of the Airflow.
    """
    file = home / "airflow.cfg"
    if not file.exists():
        key = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        file.touch(mode=0o600)
        file.write_text(f"[core]\nfernet_key = {key}\n")
