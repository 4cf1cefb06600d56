"""The real Kubernetes that the tests of pods run on (`tests/kubernetes/`): one node, on this machine."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

EXAMPLES = Path(__file__).parent.parent.parent / "docs/kubernetes"
SCRIPTS = Path(__file__).parent.parent / "kubernetes"
HOST = "10.244.0.1"
"""Address of this machine as pods see it."""

IMAGE = "local/step:1"
NAMESPACE = "flows"
SECRET = "object-store"  # the name of one


def step_settings(cpu: str) -> dict[str, str]:
    """Return Metaflow's settings for steps that are small enough for the one node."""
    return {
        "METAFLOW_KUBERNETES_NAMESPACE": NAMESPACE,
        "METAFLOW_KUBERNETES_SECRETS": SECRET,
        "METAFLOW_KUBERNETES_CONTAINER_IMAGE": IMAGE,
        "METAFLOW_KUBERNETES_IMAGE_PULL_POLICY": "Never",
        "METAFLOW_KUBERNETES_CPU": cpu,
        "METAFLOW_KUBERNETES_MEMORY": "100",
        "METAFLOW_KUBERNETES_DISK": "20",
        # A store in one process is not made faster by 64 clients a task.
        "METAFLOW_S3_WORKER_COUNT": "1",
    }


@dataclass
class Cluster:
    """The cluster: its kubeconfig, and kubectl."""

    kubeconfig: Path
    binaries: Path

    def kubectl(self, *arguments: str, text: str | None = None, check: bool = True) -> str:
        result = subprocess.run(
            [str(self.binaries / "kubectl"), "--kubeconfig", str(self.kubeconfig), *arguments],
            input=text,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0 or not check, f"kubectl {' '.join(arguments)}: {result.stderr}"
        return result.stdout

    def get(self, kind: str, *arguments: str, namespace: str = NAMESPACE) -> list[dict[str, Any]]:
        found = json.loads(self.kubectl("-n", namespace, "get", kind, "-o", "json", *arguments))
        return list(found["items"])

    def limited_kubeconfig(self) -> Path:
        """Return the kubeconfig of an account that may do in one namespace what `docs/` says that Airflow needs."""
        account = {"kind": "ServiceAccount", "name": "airflow", "namespace": NAMESPACE}
        meta = {"name": "airflow", "namespace": NAMESPACE}
        role = yaml.safe_load((EXAMPLES / "role.yaml").read_text())
        self.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
            {**role, "metadata": meta},
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": meta,
                "subjects": [account],
                "roleRef": {"kind": "Role", "name": "airflow", "apiGroup": "rbac.authorization.k8s.io"},
            },
        )
        token = self.kubectl("-n", NAMESPACE, "create", "token", "airflow", "--duration=24h").strip()
        config = yaml.safe_load(self.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token}
        path = self.kubeconfig.with_name("kubeconfig-airflow")
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config))
        return path

    def restart_api_server(self) -> None:
        """Kill the API server and start it again."""
        file = self.kubeconfig.parent / "run/kube-apiserver.pid"
        os.kill(int(file.read_text()), signal.SIGKILL)
        # Until somebody asks for its status the process is there, as a zombie.
        file.unlink()
        # It holds its port for as long as the kernel takes to clear its memory away.
        with suppress(ConnectionError):
            while True:
                socket.create_connection((HOST, 6443), timeout=5).close()
                time.sleep(0.1)
        script("cluster.sh", "up")

    def kill_container(self, pod: str) -> None:
        """Kill the first process of a pod's step, as the kernel does when the node's memory is short."""
        marks = (f"HOSTNAME={pod[:63]}".encode(), f"METAFLOW_KUBERNETES_POD_NAME={pod}".encode())
        own = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                # Another container of the pod has the first, but not the second.
                if set(marks) <= set((folder / "environ").read_bytes().split(b"\0")):
                    own.append(int(folder.name))
        assert own, f"no process of {pod}"
        os.kill(min(own), signal.SIGKILL)

    def apply(self, *objects: dict[str, Any]) -> None:
        for one in objects:
            self.kubectl("apply", "-f", "-", text=json.dumps(one))


def script(name: str, *arguments: str) -> str:
    """Run a script of `tests/kubernetes` and return what it prints last."""
    result = subprocess.run(
        [str(SCRIPTS / name), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHON": sys.executable},
    )
    assert result.returncode == 0, f"{name} {' '.join(arguments)} failed:\n{result.stdout}{result.stderr}"
    return result.stdout.strip().splitlines()[-1] if result.stdout.strip() else ""


@contextmanager
def cluster(secret: dict[str, str]) -> Iterator[Cluster]:
    """Start the cluster with the image of steps, a namespace and the object store's credentials as a secret of it."""
    image = script("step_image.sh")
    try:
        kubeconfig = Path(script("cluster.sh", "up"))
        started = Cluster(kubeconfig, Path(script("cluster.sh", "binaries")))
        script("cluster.sh", "load", image)
        started.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": SECRET, "namespace": NAMESPACE},
                "stringData": secret,
            },
        )
        yield started
    finally:
        # Whoever works on these tests may keep it from one run to the next.
        if not os.environ.get("TEST_KUBE_KEEP"):
            script("cluster.sh", "down")
