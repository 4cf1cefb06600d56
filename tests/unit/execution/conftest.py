"""Runs of flows whose scheduler is the test, with tasks that start no process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from msgspec.structs import replace
from tests.support.manifests import deployed_on_s3
from tests.support.task_runs import FlowRun, MemoryMetaflow

from airflow_provider_metaflow import MetaflowDag
from metaflow_orchestration.documents.manifest import Manifest, encode_manifest
from metaflow_orchestration.graph.model import Step


@pytest.fixture
def metaflow(monkeypatch: pytest.MonkeyPatch) -> MemoryMetaflow:
    """Metaflow's tasks without processes."""
    return MemoryMetaflow().install(monkeypatch)


@pytest.fixture
def make_dag(compiled: Callable[..., Manifest], tmp_path: Path) -> Callable[..., DAG]:
    """Makes the DAG of a shape, some of its steps changed."""

    def make(shape: str, steps: Mapping[str, Mapping[str, Any]] | None = None, code: str = "", **arguments: Any) -> DAG:
        path = tmp_path / f"{Path(shape).name}.metaflow.json"
        path.write_bytes(encode_manifest(changed(compiled(shape), steps or {}, code)))
        return MetaflowDag(path, **arguments)

    return make


def changed(manifest: Manifest, steps: Mapping[str, Mapping[str, Any]], code: str) -> Manifest:
    """Return a manifest with other fields of some steps, and another code package if the hash of one is given."""
    unknown = steps.keys() - {step.name for step in manifest.graph.steps}
    assert not unknown

    def one(step: Step) -> Step:
        return replace(step, **steps.get(step.name, {}))

    graph = replace(manifest.graph, steps=tuple(map(one, manifest.graph.steps)))
    url = f"{manifest.command.datastore_root}/{graph.name}/data/{code[:2]}/{code}"
    return replace(manifest, graph=graph, code=replace(manifest.code, sha=code, url=url) if code else manifest.code)


@pytest.fixture
def remote_dag(compiled: Callable[..., Manifest], tmp_path: Path) -> Callable[..., DAG]:
    """Makes the DAG of a shape as it would be deployed on S3."""

    def make(shape: str, steps: Mapping[str, Mapping[str, Any]] | None = None, **arguments: Any) -> DAG:
        path = tmp_path / f"{Path(shape).name}.metaflow.json"
        path.write_bytes(encode_manifest(deployed_on_s3(changed(compiled(shape), steps or {}, ""))))
        return MetaflowDag(path, **arguments)

    return make


@pytest.fixture
def start(make_dag: Callable[..., DAG]) -> Callable[..., FlowRun]:
    """Starts a run of a shape."""

    def make(
        shape: str, steps: Mapping[str, Mapping[str, Any]] | None = None, code: str = "", **options: Any
    ) -> FlowRun:
        return FlowRun(make_dag(shape, steps, code), **options)

    return make
