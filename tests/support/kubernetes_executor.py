"""An Airflow with the KubernetesExecutor: its components on this machine, each task instance in a fresh pod.

A pod has the image that `tests/kubernetes/airflow_image.py` makes, the DAG files as a volume, and nothing else of the
machine: no cache, no database, and an object store as the datastore.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from airflow_provider_metaflow.embedded.airflow import EmbeddedAirflow

from .airflow import FlowRun, SharedAirflow, shared_airflow
from .environment import environment_variable
from .kubernetes import HOST, NAMESPACE, SCRIPTS, Cluster, script, step_settings
from .object_store import BUCKET, ObjectStore
from .results import Results, artifacts

REPOSITORY, TAG = "local/airflow", "1"
DAGS = "/dags"
"""Where pods see the DAG files."""

ACCOUNT = "airflow"
"""Of the scheduler and the workers; it may do what `docs/kubernetes/role.yaml` says."""

REQUESTS = {"cpu": "50m", "memory": "200M"}
"""Of the pod template: what a task gets that asks for nothing."""

_FORWARDED = ("AWS_", "METAFLOW_", "AIRFLOW__LOGGING__REMOTE_", "AIRFLOW__CORE__XCOM_", "AIRFLOW_CONN_")
_OWN = {
    "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
    "AIRFLOW__CORE__DAGS_FOLDER": DAGS,
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "180",
    "AIRFLOW_HOME": "/opt/airflow/home",
    "USER": "airflow",
}
"""Variables of the pods; the executor is what Airflow's Helm chart says in its pod template."""


class _ReachableAirflow(EmbeddedAirflow):
    """One that listens where the pods of the cluster reach it, and nowhere else."""

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._port}"


@dataclass
class KubernetesAirflow:
    """The Airflow, its cluster and its object store."""

    airflow: SharedAirflow
    cluster: Cluster
    store: ObjectStore

    def deploy(self, files: dict[str, str]) -> None:
        """Put files into the DAG folder; DAG files come last."""
        for name, text in files.items():
            path = self.airflow.server.dags / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def worker_pods(self, run: FlowRun) -> dict[tuple[str, int], dict[str, Any]]:
        """Return the pods of a run by task id and map index; each has had one try."""
        found: dict[tuple[str, int], dict[str, Any]] = {}
        for pod in self.cluster.get("pods", "-l", "kubernetes_executor=True"):
            told = pod["metadata"]["annotations"]
            if (told["dag_id"], told["run_id"]) == (run.dag_id, run.dag_run_id):
                key = (told["task_id"], int(told.get("map_index", -1)))
                assert key not in found, f"{key} has two pods"
                found[key] = pod
        return found

    def artifacts(self, run: FlowRun) -> Results:
        return artifacts(self.store.root, run.flow, run.run_id, environment=self.store.environment)


def image() -> str:
    """Return the tar of the image, which is made if there is none of this code."""
    base = Path(script("step_image.sh"))
    command = [sys.executable, str(SCRIPTS / "airflow_image.py"), "--base", str(base), "--home", str(base.parent)]
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    return made.stdout.strip()


def _template(dags: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Return the pod template, with the variables of Airflow's other components that workers need, too."""
    forwarded = {name: value for name, value in environment.items() if name.startswith(_FORWARDED)}
    api = "AIRFLOW__CORE__EXECUTION_API_SERVER_URL"
    variables = {**forwarded, **_OWN, api: environment[api]}
    container = {
        "name": "base",
        "image": f"{REPOSITORY}:{TAG}",
        "imagePullPolicy": "Never",
        "env": [{"name": name, "value": value.replace("$", "$$")} for name, value in sorted(variables.items())],
        "resources": {"requests": REQUESTS},
        "volumeMounts": [{"name": "dags", "mountPath": DAGS, "readOnly": True}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "worker"},
        "spec": {
            "restartPolicy": "Never",
            # For steps in pods of their own.
            "serviceAccountName": ACCOUNT,
            "containers": [container],
            "volumes": [{"name": "dags", "hostPath": {"path": str(dags), "type": "Directory"}}],
        },
    }


@contextmanager
def kubernetes_airflow(cluster: Cluster, store: ObjectStore, **more: str) -> Iterator[KubernetesAirflow]:
    """Start Airflow with the KubernetesExecutor, and the LocalExecutor for tasks that choose it."""
    script("cluster.sh", "load", image())
    root = Path(tempfile.mkdtemp(prefix="metaflow-pods-", dir="/tmp"))
    home = root / "airflow"
    settings = {
        "API__HOST": HOST,
        "CORE__EXECUTOR": "KubernetesExecutor,LocalExecutor",
        "KUBERNETES_EXECUTOR__NAMESPACE": NAMESPACE,
        "KUBERNETES_EXECUTOR__IN_CLUSTER": "False",
        "KUBERNETES_EXECUTOR__CONFIG_FILE": str(cluster.limited_kubeconfig(ACCOUNT)),
        "KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE": str(root / "template.yaml"),
        "KUBERNETES_EXECUTOR__WORKER_CONTAINER_REPOSITORY": REPOSITORY,
        "KUBERNETES_EXECUTOR__WORKER_CONTAINER_TAG": TAG,
        "KUBERNETES_EXECUTOR__WORKER_PODS_CREATION_BATCH_SIZE": "8",
        # Tests look at the pods of tasks that have ended.
        "KUBERNETES_EXECUTOR__DELETE_WORKER_PODS": "False",
        "LOGGING__REMOTE_LOGGING": "True",
        "LOGGING__REMOTE_BASE_LOG_FOLDER": f"s3://{BUCKET}/logs",
        "LOGGING__REMOTE_LOG_CONN_ID": "logs",
        **more,
    }
    connection = f"aws:///?endpoint_url={quote(store.url, safe='')}&region_name=us-east-1"
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        for name, value in {**store.environment, **step_settings("0.05"), "AIRFLOW_CONN_LOGS": connection}.items():
            stack.enter_context(environment_variable(name, value))
        stack.callback(
            cluster.kubectl, "-n", NAMESPACE, "delete", "pods", "-l", "kubernetes_executor=True", "--grace-period=0"
        )
        airflow = stack.enter_context(shared_airflow(home, fixture="started", kind=_ReachableAirflow, **settings))
        server = airflow.server
        (root / "template.yaml").write_text(yaml.safe_dump(_template(server.dags, server.environment())))
        yield KubernetesAirflow(airflow, cluster, store)


_DAG_FILE = '''"""A DAG of airflow."""
from airflow_provider_metaflow import MetaflowDag

dag = MetaflowDag({arguments})
'''


def deploy(started: KubernetesAirflow, file: Path, **arguments: Any) -> None:
    """Deploy a flow file, which is compiled from there."""
    flow = f"flows/{file.name}"
    given = ", ".join([repr(flow), *(f"{name}={value!r}" for name, value in arguments.items())])
    started.deploy({flow: file.read_text(), f"{file.stem}_dag.py": _DAG_FILE.format(arguments=given)})
