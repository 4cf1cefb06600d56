"""A real S3 API for the tests: moto's server, a process of its own, at an address that pods can reach."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

BUCKET = "flows"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test-key",
    "AWS_SECRET_ACCESS_KEY": "test-secret-of-the-store",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@dataclass
class ObjectStore:
    """The server; `environment` is what makes Metaflow use it."""

    host: str
    port: int
    log: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def root(self) -> str:
        return f"s3://{BUCKET}/metaflow"

    @property
    def environment(self) -> dict[str, str]:
        return {
            **CREDENTIALS,
            "METAFLOW_DEFAULT_DATASTORE": "s3",
            "METAFLOW_DATASTORE_SYSROOT_S3": self.root,
            "METAFLOW_S3_ENDPOINT_URL": self.url,
        }

    def pause(self) -> None:
        """Stop answering, as a server behind a broken network."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def object_store(host: str, port: int, log: Path) -> Iterator[ObjectStore]:
    """Start the server and make the bucket."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", host, "-p", str(port)],
            stdout=output,
            stderr=output,
            env={**os.environ, "MOTO_PORT": str(port)},
        )
    store = ObjectStore(host, port, log, process)
    try:
        _wait(store)
        import boto3

        client = boto3.client(
            "s3",
            endpoint_url=store.url,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            region_name=CREDENTIALS["AWS_DEFAULT_REGION"],
        )
        client.create_bucket(Bucket=BUCKET)
        yield store
    finally:
        process.kill()
        process.wait()


def _wait(store: ObjectStore) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            httpx.get(f"{store.url}/moto-api/", timeout=5)
        except httpx.HTTPError:
            assert time.monotonic() < end, f"the object store did not start: {store.log.read_text()[-2000:]}"
            time.sleep(0.2)
        else:
            return
