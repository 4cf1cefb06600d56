"""A foreach and a switch in pods on Azure's and Google's object stores, which the worker itself cannot reach."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.support import clouds
from tests.support.airflow import SharedAirflow
from tests.support.kubernetes import HOST, IMAGE, NAMESPACE, Cluster
from tests.support.object_store import free_port
from tests.support.results import artifacts

pytestmark = [pytest.mark.scheduler, pytest.mark.kubernetes, pytest.mark.extended]

FOLDER = "/cloud"


@pytest.mark.parametrize("kind", ["azure", "google"])
def test_a_foreach_and_a_switch_run_on_the_store(
    airflow: SharedAirflow, cluster: Cluster, flows: Path, tmp_path: Path, kind: str
) -> None:
    with getattr(clouds, kind)(HOST, free_port(HOST), tmp_path, FOLDER) as cloud:
        secret = f"cloud-{kind}"
        meta = {"namespace": NAMESPACE}
        files = {name: base64.b64encode(path.read_bytes()).decode() for name, path in cloud.files.items()}
        cluster.apply(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret, **meta}, "stringData": cloud.secret},
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"{secret}-files", **meta}, "data": files},
        )
        environment = {
            **cloud.environment,
            "METAFLOW_AIRFLOW_KUBERNETES_KUBECONFIG_FILE": str(cluster.kubeconfig),
            "METAFLOW_KUBERNETES_NAMESPACE": NAMESPACE,
            "METAFLOW_KUBERNETES_SECRETS": secret,
            "METAFLOW_KUBERNETES_CONTAINER_IMAGE": IMAGE,
            "METAFLOW_KUBERNETES_IMAGE_PULL_POLICY": "Never",
            "METAFLOW_KUBERNETES_CPU": "0.05",
            "METAFLOW_KUBERNETES_MEMORY": "100",
            "METAFLOW_KUBERNETES_DISK": "20",
        }
        name = f"anywhere-{kind}"
        with pytest.MonkeyPatch.context() as patch:
            for key, value in environment.items():
                patch.setenv(key, value)
            airflow.create(flows / "containers/anywhere.py", top=("--with", "kubernetes"), name=f"{name}-plain")
        override = {
            "spec": {
                "volumes": [{"name": "cloud", "secret": {"secretName": f"{secret}-files"}}],
                "containers": [{"name": "base", "volumeMounts": [{"name": "cloud", "mountPath": FOLDER}]}],
            }
        }
        airflow.write_dag(
            name,
            '"""A DAG of airflow."""\nfrom airflow_provider_metaflow import MetaflowDag\n'
            f"dag = MetaflowDag({str(airflow.server.dags / f'{name}-plain.metaflow.json')!r}, {name!r}, "
            f"kubernetes={{'pod_override': {override!r}}})\n",
        )
        run = airflow.start(name, "AnywhereFlow")
        run.wait(timeout=600)
        path = f"/dags/{name}/dagRuns/{quote(run.dag_run_id)}/taskInstances/start/xcomEntries/metaflow_run"
        run_id = str(airflow.server.client.request("GET", path)["value"])
        found = artifacts(cloud.root, "AnywhereFlow", run_id, kind=cloud.kind, environment=environment)
        assert found["join"][((), ())]["values"] == [2, 4]
        assert found["end"][((), ())]["path"] == "large"
        assert run.states()["small"] == {"skipped"}
