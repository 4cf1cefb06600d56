"""The sensors that a flow waits for before it starts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from airflow_provider_metaflow import MetaflowDag
from metaflow_orchestration.documents.manifest import Manifest, encode_manifest
from metaflow_orchestration.exceptions import MissingExtraError


@pytest.fixture
def manifest_file(compiled: Callable[..., Manifest], tmp_path: Path) -> Path:
    path = tmp_path / "sensed.metaflow.json"
    path.write_bytes(encode_manifest(compiled("events/sensed")))
    return path


def test_a_flow_starts_after_its_sensors_which_take_all_their_arguments(manifest_file: Path) -> None:
    dag = MetaflowDag(manifest_file)
    (task, key) = sorted(dag.get_task("start").upstream_task_ids, key=lambda name: name != "wait_task")
    external = dag.get_task(task)
    assert type(external).__name__ == "ExternalTaskSensor"
    assert (external.external_dag_id, external.external_task_ids) == ("sensed_upstream", ["ready"])
    assert external.execution_delta == timedelta(hours=1)
    assert (external.poke_interval, external.timeout, external.doc) == (8, 120, "Waits for a task.")
    sensor = dag.get_task(key)
    assert type(sensor).__name__ == "S3KeySensor"
    assert (sensor.bucket_key, sensor.wildcard_match, sensor.aws_conn_id) == (
        "s3://sensed/keys/*.csv",
        True,
        "sensed_s3",
    )


def test_a_sensor_whose_provider_is_missing_names_the_extra_to_install(
    manifest_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "airflow.providers.amazon.aws.sensors.s3", None)
    with pytest.raises(MissingExtraError, match=r"needs a provider that is not installed .*\[airflow-amazon\]"):
        MetaflowDag(manifest_file)
