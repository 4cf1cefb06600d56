"""Size of a wide run's Workflow object on a real Argo controller, node-status offloading off and on.

    python benchmarks/argo_wide.py               # on the cluster of tests/kubernetes, a foreach of 2,000

API server, scheduler, controller and PostgreSQL are real. The pods are not run: two thousand of them take this node
over an hour, and the controller sees no difference. A node of the cluster without a kubelet gets them, and this
program reports for them what kubelet and Argo's executor do: phases, exit codes and results. A run of 10,000 is told
from the measured size of a node.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

from installation import HOME, ROOT, printed_json
from tests.support.argo import SYSTEM, Argo, Workflow, argo
from tests.support.kubernetes import HOST, NAMESPACE, Cluster, cluster
from tests.support.object_store import CREDENTIALS, object_store
from tests.support.postgres import postgres

FLOW = """
from metaflow import FlowSpec, step

class WideFlow(FlowSpec):
    @step
    def start(self):
        self.items = list(range({width}))
        self.next(self.body, foreach="items")

    @step
    def body(self):
        self.next(self.join)

    @step
    def join(self, inputs):
        self.next(self.end)

    @step
    def end(self):
        pass

if __name__ == "__main__":
    WideFlow()
"""
NODE = "paper"
LABEL = "workflows.argoproj.io/workflow"
CAPACITY = {"cpu": "100000", "memory": "100Ti", "pods": "100000", "ephemeral-storage": "100Ti"}


class PaperNode:
    """A node that runs nothing, and says of each pod that it has succeeded."""

    def __init__(self, kube: Cluster, splits: int) -> None:
        from kubernetes import client, config

        config.load_kube_config(str(kube.kubeconfig))
        self.core, self.custom, self.splits = client.CoreV1Api(), client.CustomObjectsApi(), splits
        # Else the controller itself would land there.
        taint = {"key": "kind", "value": NODE, "effect": "NoSchedule"}
        meta = {"name": NODE, "labels": {"kind": NODE}}
        kube.apply({"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": {"taints": [taint]}})
        ready = {"type": "Ready", "status": "True", "reason": "Paper", "message": "", "lastHeartbeatTime": now()}
        self.core.patch_node_status(
            NODE, {"status": {"capacity": CAPACITY, "allocatable": CAPACITY, "conditions": [ready]}}
        )
        self.ended: set[str] = set()

    def run(self, workflow: Workflow, seconds: float) -> None:
        """Report for all pods of a workflow until it has ended."""
        end = time.monotonic() + seconds
        with ThreadPoolExecutor(8) as threads:
            while time.monotonic() < end:
                pods = self.core.list_namespaced_pod(
                    NAMESPACE,
                    label_selector=f"{LABEL}={workflow.name}",
                    field_selector=f"spec.nodeName={NODE}",
                    resource_version="0",
                )
                new = [pod for pod in pods.items if pod.metadata.name not in self.ended]
                list(threads.map(self.report, new))
                self.ended.update(pod.metadata.name for pod in new)
                phase = workflow_phase(self.custom, workflow.name)
                if phase in ("Succeeded", "Failed", "Error"):
                    assert phase == "Succeeded", phase
                    return
                print(len(self.ended), "pods", phase, flush=True)
                time.sleep(2)
        raise AssertionError(f"{workflow.name} did not end in {seconds} s")

    def report(self, pod: Any) -> None:
        """Report what kubelet and Argo's executor would of a pod whose containers have ended with 0."""
        meta = pod.metadata
        template = next(
            json.loads(one.value)
            for container in [*(pod.spec.init_containers or []), *pod.spec.containers]
            for one in container.env or []
            if one.name == "ARGO_TEMPLATE"
        )
        parameters = [
            {"name": one["name"], "value": str(self.splits)}
            for one in template.get("outputs", {}).get("parameters", [])
        ]
        node_id = meta.annotations["workflows.argoproj.io/node-id"]
        result = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "WorkflowTaskResult",
            "metadata": {
                "name": node_id,
                "labels": {LABEL: meta.labels[LABEL], "workflows.argoproj.io/report-outputs-completed": "true"},
            },
            "outputs": {"exitCode": "0", **({"parameters": parameters} if parameters else {})},
        }
        self.custom.create_namespaced_custom_object(
            "argoproj.io", "v1alpha1", NAMESPACE, "workflowtaskresults", result
        )
        done = {"exitCode": 0, "reason": "Completed", "startedAt": now(), "finishedAt": now()}
        statuses = {
            "initContainerStatuses": pod.spec.init_containers,
            "containerStatuses": pod.spec.containers,
        }
        status: dict[str, Any] = {"phase": "Succeeded", "startTime": now()}
        for key, containers in statuses.items():
            status[key] = [
                {
                    "name": one.name, "image": one.image, "imageID": "", "ready": False, "restartCount": 0,
                    "state": {"terminated": done},
                }
                for one in containers or []
            ]  # fmt: skip
        self.core.patch_namespaced_pod_status(meta.name, NAMESPACE, {"status": status})


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def workflow_phase(custom: Any, name: str) -> str:
    found = custom.get_namespaced_custom_object("argoproj.io", "v1alpha1", NAMESPACE, "workflows", name)
    return str(found.get("status", {}).get("phase", ""))


def offload(kube: Cluster, database: str) -> None:
    """Let the controller keep the status of nodes in PostgreSQL, always."""
    url = urlsplit(database)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "postgres", "namespace": SYSTEM}}
    kube.apply({**secret, "stringData": {"username": "airflow", "password": "none"}})
    persistence = {
        "nodeStatusOffLoad": True,
        "archive": False,
        "postgresql": {
            "host": url.hostname, "port": url.port, "database": "airflow", "tableName": "argo_workflows",
            "userNameSecret": {"name": "postgres", "key": "username"},
            "passwordSecret": {"name": "postgres", "key": "password"},
        },
    }  # fmt: skip
    data = {"data": {"persistence": json.dumps(persistence)}}
    kube.kubectl("-n", SYSTEM, "patch", "configmap", "workflow-controller-configmap", "-p", json.dumps(data))
    container = {"name": "controller", "env": [{"name": "ALWAYS_OFFLOAD_NODE_STATUS", "value": "true"}]}
    # On the host's network, where PostgreSQL listens on loopback.
    pod = {"hostNetwork": True, "containers": [container]}
    patch = {"spec": {"template": {"spec": pod}}}
    kube.kubectl("-n", SYSTEM, "patch", "deployment", "workflow-controller", "-p", json.dumps(patch))
    kube.kubectl("-n", SYSTEM, "rollout", "status", "deployment/workflow-controller", "--timeout=120s")


def measured(workflow: Workflow, database: str | None) -> dict[str, int]:
    """Return the size of a workflow's object, and of its nodes as JSON."""
    found = json.loads(
        workflow.argo.cluster.kubectl("get", "--raw", f"/apis/argoproj.io/v1alpha1/namespaces/{NAMESPACE}/workflows/{workflow.name}")
    )  # fmt: skip
    found["metadata"].pop("managedFields", None)
    status = found["status"]
    sizes = {"object_bytes": len(json.dumps(found, separators=(",", ":")).encode())}
    if database is not None:
        assert status.get("offloadNodeStatusVersion"), status
        import psycopg2

        with psycopg2.connect(database.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT max(length(nodes::text)) FROM argo_workflows")
            sizes["row_bytes"] = cursor.fetchone()[0]
        return sizes
    packed = status.get("compressedNodes")
    nodes = json.loads(gzip.decompress(base64.b64decode(packed))) if packed else status["nodes"]
    sizes["nodes"] = len(nodes)
    sizes["nodes_bytes"] = len(json.dumps(nodes, separators=(",", ":")).encode())
    if packed:
        sizes["compressed_nodes_bytes"] = len(packed)
    return sizes


def run(controller: Argo, width: int, seconds: float, database: str | None = None) -> dict[str, int]:
    """Run the flow on paper, and return what its object has grown to."""
    node = PaperNode(controller.cluster, width)
    workflow = controller.start(
        "wide", "WideFlow", nodeSelector={"kind": NODE}, tolerations=[{"operator": "Exists"}]
    )  # fmt: skip
    node.run(workflow, seconds)
    found = {**measured(workflow, database), "pods": len(node.ended)}
    controller.cluster.kubectl("-n", NAMESPACE, "delete", "workflows", "--all", "--wait=false")
    controller.cluster.kubectl("-n", NAMESPACE, "delete", "pods", "--all", "--force", "--wait=false", check=False)
    return found


def counted(controller: Argo, flow: Any, width: int) -> int:
    """Return what ``check`` says of the size of the workflow."""
    done = controller.flow(flow, "--name", "wide", "check", "--width", str(width), "--json", check=False)
    rows = printed_json(done.stdout)["rows"]
    return int(next(row["amount"] for row in rows if row["subject"] == "workflow"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=1800)
    given = parser.parse_args()
    flow = HOME / "wide.py"
    flow.write_text(FLOW.format(width=given.width))
    with (
        postgres() as database,
        cluster(CREDENTIALS) as kube,
        object_store(HOST, HOME / "log") as store,
        argo(kube, store) as controller,
    ):
        controller.create(flow, name="wide")
        report: dict[str, Any] = {"width": given.width, "offloading off": run(controller, given.width, given.seconds)}
        report["check says bytes"] = counted(controller, flow, given.width)
        off = report["offloading off"]
        report["bytes a node"] = round(off["nodes_bytes"] / off["nodes"], 1)
        if "compressed_nodes_bytes" in off:
            report["compressed bytes a node"] = round(off["compressed_nodes_bytes"] / off["nodes"], 1)
            fixed = off["object_bytes"] - off["compressed_nodes_bytes"]
            report["bytes at 10,000"] = round(fixed + off["compressed_nodes_bytes"] / off["nodes"] * 10_005)
        print(json.dumps(report, indent=1), flush=True)
        offload(kube, database.url)
        report["offloading on"] = run(controller, given.width, given.seconds, database.url)
        print(json.dumps(report, indent=1), flush=True)
        kube.kubectl("delete", "node", NODE)
    (ROOT / "benchmarks/results/argo_wide.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
