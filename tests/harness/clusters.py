"""The Kubernetes that the tests run on: built from Go modules, made by kind or k3d, or one that is there."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.harness.tools import BUILT_CLUSTER, GO, K3D, KIND, KUBECTL, Tool

KINDS = ("built", "kind", "k3d", "own", "none")
NAME = "metaflow-tests"
STEP_IMAGE = "local/step:1"

_OWN = ("TEST_KUBECONFIG", "TEST_STEP_IMAGE", "TEST_HOST_ADDRESS")

_STEP_IMAGE = """FROM python:3.11-slim
RUN pip install --no-cache-dir boto3 requests azure-identity azure-storage-blob azure-keyvault-secrets \\
    google-cloud-storage google-auth google-cloud-secret-manager packaging uv
"""
"""As `tests/kubernetes/step_image.sh` makes it where there is no container engine."""


class ClusterError(RuntimeError):
    """There is no such cluster, or this user cannot have it."""


def chosen(environment: Mapping[str, str], arguments: Sequence[str]) -> str:
    """Return which of `KINDS` is asked for.

    :param environment: `CLUSTER`, or `TEST_KUBECONFIG` for one that is there.
    :param arguments: of pytest.
    :raises ClusterError: if it is none of them, or a setting of it is missing.
    """
    if "--without-kubernetes" in arguments:
        return "none"
    kind = environment.get("CLUSTER") or ("own" if environment.get("TEST_KUBECONFIG") else "built")
    if kind not in KINDS:
        raise ClusterError(f"CLUSTER={kind} is none of {', '.join(KINDS)}.")
    if kind == "own":
        missing = [name for name in _OWN if not environment.get(name)]
        if missing:
            raise ClusterError(f"CLUSTER=own needs {', '.join(missing)}; CONTRIBUTING.md tells what they are.")
        if not Path(environment["TEST_KUBECONFIG"]).is_file():
            raise ClusterError(f"TEST_KUBECONFIG={environment['TEST_KUBECONFIG']} is no file.")
    return kind


def check_user(kind: str, *, root: bool | None = None) -> None:
    """See that this user can have the cluster.

    :param kind: one of `KINDS`.
    :param root: whether this is root; default: as it is.
    :raises ClusterError: with what this user can run instead.
    """
    if kind != "built" or (root if root is not None else os.geteuid() == 0):
        return
    raise ClusterError(
        "The cluster of the tests is built and started by root, and you are not root. What you can run:\n"
        "  make quick                 lint and the tests that start no process\n"
        "  make test CLUSTER=kind     everything but the tests that restart the API server or kill containers;\n"
        "       (or CLUSTER=k3d)      needs a container engine\n"
        "  make test TEST_KUBECONFIG=… TEST_STEP_IMAGE=… TEST_HOST_ADDRESS=…    likewise, on a cluster of yours\n"
        "  make test CLUSTER=none     all groups but `cluster`: units, scheduler, AWS; reports the others as not run"
    )


def check_reachable(config: str) -> None:
    """See that a cluster of somebody answers its administrator: an hour of other tests comes before the first use.

    :param config: path of the kubeconfig.
    :raises ClusterError: with what kubectl says.
    """
    # Without --request-timeout it waits for minutes.
    question = ["--request-timeout=10s", "auth", "can-i", "*", "*", "--all-namespaces"]
    done = subprocess.run(["kubectl", "--kubeconfig", config, *question], capture_output=True, text=True, check=False)
    answer = done.stdout.strip()
    if answer == "no":
        raise ClusterError(f"TEST_KUBECONFIG={config}: the account of its current context is no administrator's.")
    if done.returncode or answer != "yes":
        raise ClusterError(f"TEST_KUBECONFIG={config}: the cluster does not answer: {done.stderr.strip()[-500:]}")


def tools(kind: str) -> tuple[Tool, ...]:
    """Return what a cluster needs of the machine."""
    return {
        "built": (*BUILT_CLUSTER, GO),
        "kind": (KIND, KUBECTL),
        "k3d": (K3D, KUBECTL),
        "own": (KUBECTL,),
        "none": (),
    }[kind]


def not_run(kind: str) -> str | None:
    """Return which tests a cluster leaves out, None if none: they have not passed.

    :param kind: one of `KINDS`.
    """
    if kind == "none":
        return "The tests that need a Kubernetes were not run."
    if kind != "built":
        return (
            "The tests marked `built_cluster`, which restart the API server or kill containers by hand, were not run: "
            "they need CLUSTER=built."
        )
    return None


@contextmanager
def started(kind: str) -> Iterator[dict[str, str]]:
    """Start a cluster of kind or k3d; yield the settings by which the tests find the cluster."""
    if kind not in ("kind", "k3d"):
        yield {}
        return
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "kubeconfig"
        try:
            yield _started_by(kind, config)
        finally:
            subprocess.run([kind, *_DELETE[kind]], check=False, capture_output=True)


_CREATE = {
    "kind": ["create", "cluster", "--name", NAME, "--wait", "120s", "--kubeconfig"],
    "k3d": ["cluster", "create", NAME, "--wait", "--kubeconfig-update-default=false"],
}
_DELETE = {"kind": ["delete", "cluster", "--name", NAME], "k3d": ["cluster", "delete", NAME]}
_LOAD = {
    "kind": ["load", "docker-image", STEP_IMAGE, "--name", NAME],
    "k3d": ["image", "import", STEP_IMAGE, "--cluster", NAME],
}
_NETWORK = {"kind": "kind", "k3d": f"k3d-{NAME}"}


def _started_by(kind: str, config: Path) -> dict[str, str]:
    config.touch(mode=0o600)
    _run(kind, *_CREATE[kind], *([str(config)] if kind == "kind" else []))
    if kind == "k3d":
        config.write_text(_run("k3d", "kubeconfig", "get", NAME))
    _run("docker", "build", "-t", STEP_IMAGE, "-", text=_STEP_IMAGE)
    _run(kind, *_LOAD[kind])
    gateways = "{{range .IPAM.Config}}{{.Gateway}} {{end}}"
    addresses = _run("docker", "network", "inspect", _NETWORK[kind], "--format", gateways).split()
    host = next(address for address in addresses if ":" not in address)
    return {"TEST_KUBECONFIG": str(config), "TEST_STEP_IMAGE": STEP_IMAGE, "TEST_HOST_ADDRESS": host}


def _run(*command: str, text: str | None = None) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"`{' '.join(command)}` failed:\n{done.stderr[-2000:]}")
    return done.stdout
