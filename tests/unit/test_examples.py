"""The examples parse, as Airflow parses them."""

from __future__ import annotations

from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "dags_examples"


@pytest.mark.parametrize(
    ("file", "tasks"),
    [
        ("demo_dag.py", {"start", "region", "region-splits", "train", "compare", "winners", "decide", "report"}),
        ("nightly_dag.py", {"regions", "strict.start", "lenient.region-splits", "report"}),
        ("folder_dags.py", {"start", "end"}),
    ],
)
def test_an_example_parses(file: str, tasks: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(tmp_path))
    bag = DagBag(str(EXAMPLES / file))
    assert bag.import_errors == {}
    (dag,) = bag.dags.values()
    assert tasks <= set(dag.task_ids)
