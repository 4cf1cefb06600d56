"""A cluster with Argo's objects, and flows that are deployed to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.argo_api import ArgoApi, argo_api

from metaflow_adapters.argo import ArgoDeployment, compile_flow
from metaflow_adapters.argo.cluster.client import ArgoCluster
from metaflow_adapters.argo.deploy import apply
from metaflow_adapters.argo.objects.events import EventSettings
from metaflow_adapters.argo.runs.runs import ArgoRuns
from metaflow_orchestration.documents.manifest import Manifest

EVENTS = EventSettings(event="event", source="source", account="account", namespace="events")


@pytest.fixture
def use_kubeconfig(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Names the file of a cluster's address; the client itself reads the variable once, when it is imported."""

    def use(file: Path) -> None:
        monkeypatch.setenv("KUBECONFIG", str(file))
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(file))

    return use


@pytest.fixture
def api(tmp_path: Path, use_kubeconfig: Callable[[Path], None]) -> Iterator[ArgoApi]:
    """The API of a cluster."""
    with argo_api(tmp_path) as (served, file):
        use_kubeconfig(file)
        yield served


@pytest.fixture
def objects(api: ArgoApi) -> ArgoCluster:
    """A client of it."""
    return ArgoCluster("flows")


@pytest.fixture
def deploy(objects: ArgoCluster, on_s3: Callable[..., Manifest]) -> Callable[..., tuple[ArgoDeployment, ArgoRuns]]:
    """Deploys a flow; returns its deployment and its runs."""

    def make(flow: str, **deployment: Any) -> tuple[ArgoDeployment, ArgoRuns]:
        made = compile_flow(on_s3(flow, **deployment), namespace="flows", events=EVENTS)
        apply(made, objects)
        return made, ArgoRuns(objects, str(made.template.name), made.manifest.graph.name)

    return make
