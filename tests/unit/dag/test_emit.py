"""What becomes of the tasks of a foreach."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.manifests import deployed_on_s3

from airflow_provider_metaflow import MetaflowDag
from metaflow_orchestration.containers.batch_jobs import ARRAY_SIZES
from metaflow_orchestration.documents.manifest import Manifest, encode_manifest

ROLES = {"iam_role": "arn:aws:iam::123456789012:role/jobs", "execution_role": "role"}


@pytest.mark.parametrize(
    ("shape", "source", "array_jobs", "is_packed"),
    [
        ("grouped", "start", True, True),
        ("grouped", "start", False, False),
        # Two steps for each split: each split is a task group of its own.
        ("split_in_foreach", "start", True, False),
    ],
)
def test_all_splits_go_to_one_pack_where_their_one_step_is_an_array_job(
    compiled: Callable[..., Manifest], tmp_path: Path, shape: str, source: str, array_jobs: bool, is_packed: bool
) -> None:
    file = tmp_path / f"{shape}.metaflow.json"
    file.write_bytes(encode_manifest(deployed_on_s3(compiled(shape))))
    dag = MetaflowDag(file, compute="batch", batch={**ROLES, "array_jobs": array_jobs})
    task: Any = dag.get_task(source)
    assert (task.pack_size == ARRAY_SIZES[-1]) is is_packed
