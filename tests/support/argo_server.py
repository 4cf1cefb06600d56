"""Argo's own server, as a process of this machine."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.harness import builds

from .kubernetes import Cluster, script
from .object_store import free_port


@contextmanager
def argo_server(cluster: Cluster, log: Path) -> Iterator[str]:
    """Start the server with the rights of the cluster's administrator, and yield its URL."""
    builds.wait("controllers")
    binary = Path(script("controllers.sh", "server", "argo-workflows")) / "argo"
    port = free_port("127.0.0.1")
    command = [str(binary), "server", "-n", "argo", "--auth-mode", "server", "--secure=false", "--port", str(port)]
    environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 60
        while not _answers(url):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.5)
        yield url
    finally:
        # It has nothing to lose, and waits for the connections of its clients otherwise.
        server.kill()
        server.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/v1/version").is_success
    except httpx.TransportError:
        return False
