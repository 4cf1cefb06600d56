"""What runs on which worker, and in what order."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.harness.builds import FOLDER
from tests.support.workers import group_of, next_group

AIRFLOW = "tests/integration/test_events.py"


def test_all_that_needs_the_cluster_is_one_group_and_the_rest_goes_by_file() -> None:
    assert group_of("tests/integration/test_argo_faults.py::test_a[x::y]") == "cluster"
    assert group_of("tests/integration/test_kubernetes.py::test_a") == "cluster"
    assert group_of(f"{AIRFLOW}::test_a") == AIRFLOW
    assert group_of("tests/unit/containers/test_pods.py::test_a") == "tests/unit/containers/test_pods.py"


def test_the_longest_group_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER, raising=False)
    took = {"cluster": 900.0, AIRFLOW: 200.0, "b": 300.0}
    assert next_group(["a", AIRFLOW, "b", "cluster"], took) == "cluster"
    assert next_group(["a", AIRFLOW, "b"], took) == "b"
    # Where nothing is recorded yet, what holds up most.
    assert next_group(["a", "cluster"], {}) == "cluster"


def test_short_groups_run_while_the_cluster_is_being_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    (tmp_path / "cluster.log").touch()
    assert next_group(["a", "b", "cluster"], {"cluster": 900.0, "a": 20.0, "b": 10.0}) == "b"
    assert next_group([AIRFLOW, "a", "cluster"], {}) == "a"
    assert next_group(["cluster"], {}) == "cluster"
    (tmp_path / "cluster.result").write_text("0")
    assert next_group(["a", "cluster"], {"cluster": 900.0}) == "cluster"
