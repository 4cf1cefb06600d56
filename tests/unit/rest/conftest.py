"""An Airflow over loopback HTTP, and a flow that is deployed to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.support.airflow_api import AirflowApi, airflow_api

from airflow_provider_metaflow.plan.record import record_line
from airflow_provider_metaflow.rest.client import AirflowClient
from airflow_provider_metaflow.rest.deployment import DeployedDag, open_deployment
from airflow_provider_metaflow.rest.endpoint import Endpoint
from metaflow_orchestration.documents.manifest import Manifest


@pytest.fixture
def api() -> Iterator[AirflowApi]:
    with airflow_api() as served:
        yield served


@pytest.fixture
def client(api: AirflowApi) -> Iterator[AirflowClient]:
    with AirflowClient(Endpoint(url=api.url, patience=5)) as made:
        yield made


@pytest.fixture
def deployed(api: AirflowApi, client: AirflowClient, compiled: Callable[..., Manifest]) -> DeployedDag:
    """The flow `grouped`, deployed under the name `flow.one`."""
    manifest = compiled("grouped")
    api.add_dag("flow.one", f"# Doc\n{record_line(manifest)}\n")
    return open_deployment(client, "flow.one", "GroupedFlow")
