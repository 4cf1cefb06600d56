"""A terminal in this process, and an Airflow over loopback HTTP that has what was deployed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.airflow_api import AirflowApi, airflow_api
from tests.support.command_line import CommandLine


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[AirflowApi]:
    monkeypatch.setenv("METAFLOW_AIRFLOW_DAGS_FOLDER", str(tmp_path / "dags"))
    with airflow_api() as served:
        monkeypatch.setenv("METAFLOW_AIRFLOW_URL", served.url)
        yield served
