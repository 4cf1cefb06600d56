"""One flow by Airflow's own `airflow dags test`, on SQLite, without a scheduler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.results import artifacts, local_artifacts

DAG = """
from airflow_provider_metaflow import MetaflowDag

dag = MetaflowDag({flow!r}, "tested")
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Settings of an Airflow in a folder of its own, its database made."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    settings = {
        **kept,
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db",
        "AIRFLOW__METAFLOW__CACHE_FOLDER": str(tmp_path / "cache"),
        "AIRFLOW__METAFLOW__WARM_PROCESS_IDLE_SECONDS": "5",
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(tmp_path / "datastore"),
    }
    airflow(settings, "db", "migrate")
    return settings


def airflow(environment: dict[str, str], *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "airflow", *arguments], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, (result.stdout + result.stderr)[-5000:]
    return result.stdout + result.stderr


def test_a_flow_with_a_foreach_runs_under_airflow_dags_test(
    environment: dict[str, str], flows: Path, tmp_path: Path
) -> None:
    """A small one: wider and deeper shapes run on a real scheduler in `make test`."""
    flow = flows / "grouped.py"
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "tested.py").write_text(DAG.format(flow=str(flow)))
    airflow(environment, "dags", "test", "tested")
    (run,) = [path.name for path in (tmp_path / "datastore/.metaflow/GroupedFlow").glob("airflow-*")]
    found = artifacts(tmp_path / "datastore", "GroupedFlow", run)
    assert found == local_artifacts(flow, "GroupedFlow")
    assert found["end"][(), ()]["texts"] == ["default0", "default1"]
