"""Steps in pods of the cluster, with an Airflow outside of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from .airflow import FlowRun, SharedAirflow
from .kubernetes import Cluster, step_settings
from .object_store import ObjectStore
from .results import artifacts


@dataclass
class Pods:
    """Airflow, cluster and object store, and how a flow gets there."""

    airflow: SharedAirflow
    cluster: Cluster
    store: ObjectStore
    environment: dict[str, str]

    def deploy(self, flow_file: Path, *top: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            self.airflow.create(flow_file, top=top)

    def manifest_of(self, flow: str) -> str:
        return str(self.airflow.server.dags / f"{flow}.metaflow.json")

    def write_dag(self, dag_id: str, flow: str, **options: Any) -> None:
        """A second DAG of a flow that was deployed, with options for its pods."""
        self.airflow.write_dag(
            dag_id,
            '"""A DAG of airflow."""\nfrom airflow_provider_metaflow import MetaflowDag\n'
            f"dag = MetaflowDag({self.manifest_of(flow)!r}, {dag_id!r}, kubernetes={options!r})\n",
        )

    def xcoms(self, run: FlowRun) -> str:
        """All XComs of a run, as text."""
        found = []
        for task_id, index in run.instances():
            path = f"/dags/{run.dag_id}/dagRuns/{quote(run.dag_run_id)}/taskInstances/{task_id}/xcomEntries"
            ask = partial(self.airflow.server.client.request, "GET", params={"map_index": index})
            entries = ask(path)["xcom_entries"]
            keys = {entry["key"] for entry in entries}
            found.extend(ask(f"{path}/{key}") for key in keys)
        assert found
        return json.dumps(found)

    def has(self, run: FlowRun, name: str) -> bool:
        """Whether the flow has written an object by Metaflow's S3 client."""
        return self.store.has(run.flow, run.run_id, name)

    def phases(self, flow: str) -> list[str]:
        """The phases of the pods of a flow."""
        return [one["status"]["phase"] for one in self.cluster.get("pods", "-l", f"metaflow/flow={flow}")]

    def put(self, run: FlowRun, name: str) -> None:
        self.store.put(run.flow, run.run_id, name)

    def artifacts(self, run: FlowRun) -> dict[str, Any]:
        return artifacts(self.store.root, run.flow, run.run_id, environment=self.environment)


@contextmanager
def pods(airflow: SharedAirflow, cluster: Cluster, cluster_store: ObjectStore) -> Iterator[Pods]:
    """Yield them, and see that nothing is left behind."""
    account = cluster.limited_kubeconfig()
    environment = {
        **cluster_store.environment,
        "METAFLOW_AIRFLOW_KUBERNETES_KUBECONFIG_FILE": str(account),
        **step_settings(cpu="0.05"),
    }
    yield Pods(airflow, cluster, cluster_store, environment)
    assert cluster.get("pods") == [], "pods were left behind"
    assert cluster.get("jobs") == [], "jobs were left behind"
