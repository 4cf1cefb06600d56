"""The real Argo Workflows that the tests run flows on, in the cluster of `tests/kubernetes/`."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .controllers import create, load
from .interpreter import python
from .kubernetes import NAMESPACE, PULL_POLICY, Cluster, step_settings
from .object_store import ObjectStore
from .patience import patient, wait_until
from .results import artifacts

VERSION = os.environ.get("TEST_ARGO_VERSION", "")
"""Another than that of `controllers.sh`."""

SYSTEM = "argo"
ROLES = Path(__file__).parents[2] / "docs/argo"
_ENDED = ("Succeeded", "Failed", "Error")


@dataclass
class Workflow:
    """One run of a flow on Argo."""

    argo: Argo
    flow: str
    name: str

    @property
    def run_id(self) -> str:
        return f"argo-{self.name}"

    def get(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            self.argo.cluster.kubectl("-n", NAMESPACE, "get", "workflow", self.name, "-o", "json")
        )
        return found

    def wait(self, timeout: float = 300, expect: str = "Succeeded") -> dict[str, Any]:
        end = time.monotonic() + patient(timeout)
        while time.monotonic() < end:
            found = self.get()
            if found.get("status", {}).get("phase") in _ENDED:
                assert found["status"]["phase"] == expect, self.story(found)
                return found
            time.sleep(2)
        raise AssertionError(f"{self.name} did not end in {timeout} s:\n{self.story(self.get())}")

    def nodes(self) -> dict[str, dict[str, Any]]:
        """The nodes by display name."""
        return {one["displayName"]: one for one in self.get()["status"].get("nodes", {}).values()}

    def story(self, found: dict[str, Any]) -> str:
        status = found.get("status", {})
        lines = [f"{self.name}: {status.get('phase')} {status.get('message', '')}"]
        for node in status.get("nodes", {}).values():
            lines.append(f"  {node['type']:10} {node['phase']:10} {node['name']} {node.get('message', '')}")
            if node["type"] == "Pod" and node["phase"] in ("Failed", "Error"):
                lines.append(self.log(node))
        return "\n".join(lines)

    def log(self, node: dict[str, Any]) -> str:
        selector = f"workflows.argoproj.io/workflow={self.name}"
        pods = self.argo.cluster.get("pods", "-l", selector)
        names = [
            pod["metadata"]["name"]
            for pod in pods
            if pod["metadata"]["annotations"].get("workflows.argoproj.io/node-id") == node["id"]
        ]
        return "".join(
            self.argo.cluster.kubectl("-n", NAMESPACE, "logs", name, "-c", "main", check=False) for name in names
        )

    def has(self, name: str) -> bool:
        """Whether the flow has written an object by Metaflow's S3 client."""
        return self.argo.store.has(self.flow, self.run_id, name)

    def put(self, name: str) -> None:
        self.argo.store.put(self.flow, self.run_id, name)

    def artifacts(self) -> dict[str, Any]:
        return artifacts(self.argo.store.root, self.flow, self.run_id, environment=self.argo.environment)


@dataclass
class Argo:
    """Argo in the cluster, and Metaflow's settings for it."""

    cluster: Cluster
    store: ObjectStore
    environment: dict[str, str] = field(default_factory=dict)

    def flow(
        self, flow_file: Path, *arguments: str, top: tuple[str, ...] = (), check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `python FLOW argo …`."""
        result = subprocess.run(
            [python(), flow_file.name, "--no-pylint", *top, "argo", *arguments],
            cwd=flow_file.parent,
            capture_output=True,
            text=True,
            env={**os.environ, **self.environment, **environment},
        )
        assert not check or result.returncode == 0, result.stdout + result.stderr
        return result

    def clean(self) -> None:
        """Delete what has run, with its pods."""
        self.cluster.kubectl("-n", NAMESPACE, "delete", "cronworkflows,workflows", "--all", check=False)
        self.cluster.kubectl("-n", NAMESPACE, "wait", "--for=delete", "pods", "--all", "--timeout=90s", check=False)

    def wait_until(self, condition: Callable[[], Any], timeout: float = 60) -> None:
        wait_until(condition, timeout)

    def create(self, flow_file: Path, *arguments: str, top: tuple[str, ...] = (), name: str | None = None) -> None:
        self.flow(flow_file, *(["--name", name] if name else []), "create", "--gang", "job", *arguments, top=top)

    def start(self, template: str, flow: str, parameters: Mapping[str, str] | None = None, **spec: Any) -> Workflow:
        """Submit a workflow template, as `kubectl` users do, with more in the workflow's specification if need be."""
        given = [{"name": name, "value": value} for name, value in (parameters or {}).items()]
        made = self.cluster.kubectl(
            "-n", NAMESPACE, "create", "-o", "json", "-f", "-",
            text=json.dumps(
                {
                    "apiVersion": "argoproj.io/v1alpha1",
                    "kind": "Workflow",
                    "metadata": {"generateName": f"{template}-"},
                    "spec": {"workflowTemplateRef": {"name": template}, "arguments": {"parameters": given}, **spec},
                }
            ),
        )  # fmt: skip
        return Workflow(self, flow, json.loads(made)["metadata"]["name"])


@contextmanager
def argo(cluster: Cluster, store: ObjectStore, version: str = VERSION) -> Iterator[Argo]:
    """Install Argo in the cluster and wait until its controller runs."""
    image, objects = load("argo-workflows", version)
    create(cluster, objects)
    executor = image.replace("/workflow-controller:", "/argoexec:")
    install = _INSTALL.replace("EXECUTOR", executor).replace("IMAGE", image).replace("POLICY", PULL_POLICY)
    for document in yaml.safe_load_all(install):
        cluster.apply(document)
    cluster.kubectl("-n", SYSTEM, "rollout", "status", "deployment/workflow-controller", "--timeout=120s")
    # Pods and deployers may do what the page says, and no more; the controller is Argo's own affair.
    cluster.grant("default", ROLES / "pods-role.yaml")
    deployer = cluster.limited_kubeconfig("deployer", ROLES / "deployer-role.yaml")
    environment = {
        **store.environment,
        "KUBECONFIG": str(deployer),
        **step_settings(cpu="0.2"),
    }
    yield Argo(cluster, store, environment)


_INSTALL = """
apiVersion: v1
kind: Namespace
metadata: {name: argo, labels: {metaflow-tests: "yes"}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: argo, namespace: argo}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: argo}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, name: argo, namespace: argo}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: workflow-controller-configmap, namespace: argo}
data:
  metricsConfig: "{enabled: false}"
  telemetryConfig: "{enabled: false}"
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: workflow-controller, namespace: argo}
spec:
  # Never two of them at a time: they would undo each other's work.
  strategy: {type: Recreate}
  selector: {matchLabels: {app: workflow-controller}}
  template:
    metadata: {labels: {app: workflow-controller}}
    spec:
      serviceAccountName: argo
      containers:
      - name: controller
        image: IMAGE
        imagePullPolicy: POLICY
        command: [/bin/workflow-controller, --executor-image, EXECUTOR, --executor-image-pull-policy, POLICY]
        env:
        - {name: LEADER_ELECTION_DISABLE, value: "true"}
        - {name: LEADER_ELECTION_IDENTITY, value: workflow-controller}
        - {name: DEFAULT_REQUEUE_TIME, value: 1s}
"""
