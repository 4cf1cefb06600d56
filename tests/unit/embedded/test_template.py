"""The migrated database that embedded Airflows start with."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from airflow_provider_metaflow.embedded import template
from airflow_provider_metaflow.embedded.template import copy_database, is_migrated, kept_database, write_configuration


def make(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("create table migrated (x)")
        database.commit()


def tables(path: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return [name for (name,) in database.execute("select name from sqlite_master")]


def test_a_copy_has_the_tables_and_is_for_its_user_only(tmp_path: Path) -> None:
    make(tmp_path / "old.db")
    assert copy_database(tmp_path / "old.db", tmp_path / "cache/new.db")
    assert tables(tmp_path / "cache/new.db") == ["migrated"]
    assert (tmp_path / "cache/new.db").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["new.db"]


def test_a_database_that_is_missing_or_damaged_is_none(tmp_path: Path) -> None:
    assert not copy_database(tmp_path / "none.db", tmp_path / "new.db")
    (tmp_path / "bad.db").write_text("no database, but long enough to look like one" * 100)
    assert not copy_database(tmp_path / "bad.db", tmp_path / "new.db")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.db"]


def test_only_a_database_with_a_version_of_its_tables_is_migrated(tmp_path: Path) -> None:
    """An empty one that a failed start had left in the cache kept every later Airflow from starting."""
    file = tmp_path / "airflow.db"
    assert not is_migrated(file)
    file.touch()
    assert not is_migrated(file)
    make(file)
    assert not is_migrated(file)
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("create table alembic_version (version_num)")
        database.commit()
        assert not is_migrated(file)
        database.execute("insert into alembic_version values ('1')")
        database.commit()
    assert is_migrated(file)
    file.write_text("no database, but long enough to look like one" * 100)
    assert not is_migrated(file)


def test_a_cache_that_cannot_be_written_is_none(tmp_path: Path) -> None:
    make(tmp_path / "old.db")
    assert not copy_database(tmp_path / "old.db", Path("/proc/none/new.db"))


def test_each_release_and_each_setting_of_the_database_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    one = kept_database({"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite:////a", "AIRFLOW__API__PORT": "1"})
    assert one == kept_database({"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite:////b", "AIRFLOW__API__PORT": "2"})
    assert one != kept_database({"AIRFLOW__DATABASE__EXTERNAL_DB_MANAGERS": "x"})
    monkeypatch.setattr(template, "version", lambda name: "99.0")
    assert one != kept_database({})


def test_the_configuration_has_a_key_of_its_own_and_is_written_once(tmp_path: Path) -> None:
    write_configuration(tmp_path)
    text = (tmp_path / "airflow.cfg").read_text()
    write_configuration(tmp_path)
    assert (tmp_path / "airflow.cfg").read_text() == text
    assert (tmp_path / "airflow.cfg").stat().st_mode & 0o777 == 0o600
    (tmp_path / "other").mkdir()
    write_configuration(tmp_path / "other")
    assert (tmp_path / "other/airflow.cfg").read_text() != text
