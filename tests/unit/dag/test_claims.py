"""Two DAG files, or two flows of one DAG file, with one DAG id: parsed as Airflow's DAG processor does."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.processor import DagFileParseRequest, _parse_file
from msgspec.structs import replace

from airflow_provider_metaflow import settings
from airflow_provider_metaflow.dag import claims
from metaflow_orchestration.cache import Cache
from metaflow_orchestration.documents.manifest import Manifest, encode_manifest


class DagProcessor:
    """Bundles of DAG files, and what Airflow's DAG processor finds in them."""

    def __init__(self, root: Path, manifest: Manifest) -> None:
        self.root, self._manifest = root, manifest

    def write(self, bundle: str, name: str, *flow_dirs: str, dag_id: str | None = None) -> None:
        """Write a DAG file that makes a DAG of flows of one name in some folders."""
        folder = self.root / bundle
        folder.mkdir(exist_ok=True)
        lines = ["from airflow_provider_metaflow import MetaflowDag"]
        for number, flow_dir in enumerate(flow_dirs or (bundle,)):
            manifest = replace(self._manifest, code=replace(self._manifest.code, flow_dir=f"/home/{flow_dir}"))
            file = folder / f"{name}_{number}.metaflow.json"
            file.write_bytes(encode_manifest(manifest))
            lines.append(f"dag_{number} = MetaflowDag({file.name!r}, {dag_id!r})")
        (folder / f"{name}.py").write_text("\n".join(lines))

    def parse(self, bundle: str, name: str) -> tuple[list[str], str]:
        """Return the ids of the DAGs of a file, and its import errors."""
        folder = self.root / bundle
        request = DagFileParseRequest(file=str(folder / f"{name}.py"), bundle_path=folder, bundle_name=bundle)
        found: Any = _parse_file(request, logging.getLogger("parse"))  # type: ignore[arg-type]
        return [dag.dag_id for dag in found.serialized_dags], "\n".join((found.import_errors or {}).values())


@pytest.fixture
def processor(tmp_path: Path, compiled: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch) -> DagProcessor:
    monkeypatch.setattr(settings, "cache", lambda: Cache(tmp_path / "cache"))
    return DagProcessor(tmp_path, compiled("linear"))


def test_the_second_file_with_a_dag_id_is_refused_with_the_name_of_the_first(processor: DagProcessor) -> None:
    processor.write("team_a", "first")
    processor.write("team_b", "second")
    assert processor.parse("team_a", "first") == (["LinearFlow"], "")
    ids, error = processor.parse("team_b", "second")
    assert ids == []
    assert (
        "flow LinearFlow: the DAG 'LinearFlow' is made by another DAG file, too: first.py of the bundle team_a, of the "
        "flow LinearFlow." in error
    )
    assert "Give one of them a `dag_id` of its own" in error
    # The first goes on, and the second as soon as it has a name of its own.
    assert processor.parse("team_a", "first") == (["LinearFlow"], "")
    processor.write("team_b", "second", dag_id="of_team_b")
    assert processor.parse("team_b", "second") == (["of_team_b"], "")


def test_a_dag_may_move_to_another_file_or_be_left_by_one_that_changed(processor: DagProcessor) -> None:
    processor.write("dags", "old")
    assert processor.parse("dags", "old") == (["LinearFlow"], "")
    processor.write("dags", "new")
    (processor.root / "dags/old.py").unlink()
    assert processor.parse("dags", "new") == (["LinearFlow"], "")
    processor.write("dags", "new", dag_id="renamed")
    processor.write("dags", "third")
    # Only a parse tells that it was left.
    assert processor.parse("dags", "third")[0] == []
    assert processor.parse("dags", "new") == (["renamed"], "")
    assert processor.parse("dags", "third") == (["LinearFlow"], "")


def test_an_edit_of_the_first_file_does_not_give_its_dag_to_the_second(processor: DagProcessor) -> None:
    """Whichever was parsed first after the edit had it, and running DAG runs went on with the other flow."""
    processor.write("dags", "first")
    processor.write("dags", "second")
    assert processor.parse("dags", "first") == (["LinearFlow"], "")
    file = processor.root / "dags/first.py"
    file.write_text(f"{file.read_text()}\n# A comment.\n")
    assert processor.parse("dags", "second")[0] == []
    assert processor.parse("dags", "first") == (["LinearFlow"], "")
    assert processor.parse("dags", "second")[0] == []


def test_a_file_that_changed_and_makes_no_dag_any_more_loses_its_dag_id(
    processor: DagProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor.write("dags", "first")
    processor.write("dags", "second")
    assert processor.parse("dags", "first") == (["LinearFlow"], "")
    (processor.root / "dags/first.py").write_text("# Airflow's safe mode does not even open it.\n")
    assert processor.parse("dags", "second")[0] == []
    now = claims.time.time()
    monkeypatch.setattr(claims.time, "time", lambda: now + 300)
    assert processor.parse("dags", "second") == (["LinearFlow"], "")


def test_a_file_that_is_no_longer_parsed_loses_its_dag_id(
    processor: DagProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor.write("removed_bundle", "flow")
    assert processor.parse("removed_bundle", "flow") == (["LinearFlow"], "")
    processor.write("dags", "flow")
    assert processor.parse("dags", "flow")[0] == []
    now = claims.time.time()
    monkeypatch.setattr(claims.time, "time", lambda: now + 3600)
    assert processor.parse("dags", "flow") == (["LinearFlow"], "")


def test_two_flows_of_one_class_name_in_one_dag_file_are_refused(processor: DagProcessor) -> None:
    processor.write("dags", "both", "churn", "sales")
    ids, error = processor.parse("dags", "both")
    assert ids == []
    assert "makes the DAG 'LinearFlow' of two flows" in error
    assert "LinearFlow of /home/churn/linear.py" in error
    assert "LinearFlow of /home/sales/linear.py" in error
    # The same flow twice is one DAG.
    processor.write("dags", "both", "churn", "churn")
    assert processor.parse("dags", "both") == (["LinearFlow"], "")


def test_a_dag_is_parsed_where_nothing_can_be_noted_down(
    processor: DagProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    (processor.root / "file").write_text("no folder")
    monkeypatch.setattr(settings, "cache", lambda: Cache(processor.root / "file"))
    processor.write("dags", "flow")
    assert processor.parse("dags", "flow") == (["LinearFlow"], "")
