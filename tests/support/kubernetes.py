"""The real Kubernetes that the tests of pods run on (`tests/kubernetes/`): one node, on this machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.harness import builds
from tests.support.idle_servers import stopped_while_idle

EXAMPLES = Path(__file__).parent.parent.parent / "docs/kubernetes"
SCRIPTS = Path(__file__).parent.parent / "kubernetes"
OWN = os.environ.get("TEST_KUBECONFIG", "")
"""Kubeconfig of a cluster that is there already, in the place of the one of `tests/kubernetes/`."""

HOST = os.environ.get("TEST_HOST_ADDRESS") or "10.244.0.1"
"""Address of this machine as pods see it."""

IMAGE = os.environ.get("TEST_STEP_IMAGE") or "local/step:1"
PULL_POLICY = "IfNotPresent" if OWN else "Never"
NAMESPACE = "flows"
SECRET = "object-store"  # the name of one

_NAMESPACES = (NAMESPACE, "argo")
_OURS = {"metaflow-tests": "yes"}
"""The label of namespaces that tests have made in a cluster of somebody."""


def step_settings(cpu: str) -> dict[str, str]:
    """Return Metaflow's settings for steps that are small enough for the one node."""
    return {
        "METAFLOW_KUBERNETES_NAMESPACE": NAMESPACE,
        "METAFLOW_KUBERNETES_SECRETS": SECRET,
        "METAFLOW_KUBERNETES_CONTAINER_IMAGE": IMAGE,
        "METAFLOW_KUBERNETES_IMAGE_PULL_POLICY": PULL_POLICY,
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
    binary: Path

    def kubectl(self, *arguments: str, text: str | None = None, check: bool = True) -> str:
        result = subprocess.run(
            [str(self.binary), "--kubeconfig", str(self.kubeconfig), *arguments],
            input=text,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0 or not check, f"kubectl {' '.join(arguments)}: {result.stderr}"
        return result.stdout

    def get(self, kind: str, *arguments: str, namespace: str = NAMESPACE) -> list[dict[str, Any]]:
        found = json.loads(self.kubectl("-n", namespace, "get", kind, "-o", "json", *arguments))
        return list(found["items"])

    def grant(self, account: str, role: Path) -> None:
        """Let an account do in the namespace of the tests what a role of `docs/` allows, and nothing else.

        The account's own name is that of the role and of its binding, so that one account has one role.
        """
        meta = {"name": f"tests-{account}", "namespace": NAMESPACE}
        self.apply(
            {**yaml.safe_load(role.read_text()), "metadata": meta},
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": meta,
                "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}],
                "roleRef": {"kind": "Role", "name": meta["name"], "apiGroup": "rbac.authorization.k8s.io"},
            },
        )

    def limited_kubeconfig(self, account: str = "airflow", role: Path = EXAMPLES / "role.yaml") -> Path:
        """Return the kubeconfig of an account that may do what `docs/` says that it needs: Airflow, or a deployer."""
        meta = {"name": account, "namespace": NAMESPACE}
        self.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})
        self.grant(account, role)
        token = self.kubectl("-n", NAMESPACE, "create", "token", account, "--duration=24h").strip()
        config = yaml.safe_load(self.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token}
        path = self.kubeconfig.with_name(f"kubeconfig-{account}")
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config))
        return path

    def restart_api_server(self) -> None:
        """Kill the API server and start it again."""
        assert not OWN, "a test that does so is marked `built_cluster`"
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
        assert not OWN, "a test that does so is marked `built_cluster`"
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
    printed = script_output(name, *arguments).strip()
    return printed.splitlines()[-1] if printed else ""


def script_output(name: str, *arguments: str) -> str:
    """Run a script of `tests/kubernetes` and return what it prints."""
    result = subprocess.run(
        [str(SCRIPTS / name), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHON": sys.executable},
    )
    assert result.returncode == 0, f"{name} {' '.join(arguments)} failed:\n{result.stdout}{result.stderr}"
    return result.stdout


@contextmanager
def cluster(secret: dict[str, str]) -> Iterator[Cluster]:
    """Start the cluster with the image of steps, a namespace and the object store's credentials as a secret of it."""
    with _own() if OWN else _built() as started:
        started.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": _OURS}},
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": SECRET, "namespace": NAMESPACE},
                "stringData": secret,
            },
        )
        yield started


@contextmanager
def _built() -> Iterator[Cluster]:
    builds.wait("cluster")
    image = script("step_image.sh")
    try:
        kubeconfig = Path(script("cluster.sh", "up"))
        script("cluster.sh", "load", image)
        # A test may start one of them again.
        files = kubeconfig.parent / "run"
        with stopped_while_idle("cluster", lambda: [int(file.read_text()) for file in files.glob("*.pid")]):
            yield Cluster(kubeconfig, Path(script("cluster.sh", "binaries")) / "kubectl")
    finally:
        # Whoever works on these tests may keep it from one run to the next.
        if not os.environ.get("TEST_KUBE_KEEP"):
            script("cluster.sh", "down")


@contextmanager
def _own() -> Iterator[Cluster]:
    """The cluster of `TEST_KUBECONFIG`, whose other namespaces are left alone."""
    kubectl = shutil.which("kubectl")
    assert kubectl, "kubectl is missing"
    given = Cluster(Path(OWN), Path(kubectl))
    with tempfile.TemporaryDirectory() as folder:
        kubeconfig = Path(folder) / "kubeconfig"
        kubeconfig.touch(mode=0o600)
        kubeconfig.write_text(given.kubectl("config", "view", "--raw", "--minify", "--flatten"))
        started = Cluster(kubeconfig, given.binary)
        for name in _NAMESPACES:
            found = started.kubectl("get", "namespace", name, "--ignore-not-found", "-o", "jsonpath={.metadata.labels}")
            there = started.kubectl("get", "namespace", name, "--ignore-not-found", "-o", "name")
            assert not there or next(iter(_OURS)) in found, (
                f"The cluster has a namespace {name} that is not of these tests; give them a cluster without one."
            )
        try:
            yield started
        finally:
            started.kubectl("delete", "namespace", *_NAMESPACES, "--ignore-not-found", "--timeout=180s", check=False)
