"""`airflow create` and `delete` in the prefix of a DAG bundle: S3 by moto, Google's storage by an emulator."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from tests.support.interpreter import python

KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket named `bundle` on a server of its own."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
        monkeypatch.setenv(name, value)
    # Not by boto3's default session, which would keep these keys for the tests after this one.
    client = boto3.Session().client("s3")
    client.create_bucket(Bucket="bundle")
    yield client
    server.stop()


@pytest.fixture
def gcs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket named `bundle` on an emulator of Google's storage."""
    from gcp_storage_emulator.server import create_server
    from google.cloud import storage

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = create_server("127.0.0.1", port, in_memory=True, default_bucket="bundle")
    server.start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    yield storage.Client.create_anonymous_client().bucket("bundle")
    server.stop()


def flow(path: Path, *arguments: str, ok: bool = True, **environment: str) -> str:
    result = subprocess.run(
        [python(), path.name, "--no-pylint", "airflow", *arguments],
        cwd=path.parent,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    assert (result.returncode == 0) is ok, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout + result.stderr


def keys(client: Any) -> list[str]:
    return sorted(one["Key"] for one in client.list_objects_v2(Bucket="bundle").get("Contents", ()))


def test_a_deployment_goes_to_a_bucket_and_away_again(s3: Any, flows: Path, tmp_path: Path) -> None:
    here = {"METAFLOW_DATASTORE_SYSROOT_LOCAL": str(tmp_path), "METAFLOW_AIRFLOW_DAGS_FOLDER": "s3://bundle/dags"}
    told = flow(flows / "linear.py", "create", "--worker-pool", "ml", **here)
    assert "was written to s3://bundle/dags/LinearFlow.py" in told
    expected = ["dags/LinearFlow.metaflow.json", "dags/LinearFlow.pools.json", "dags/LinearFlow.py"]
    assert keys(s3) == expected
    text = s3.get_object(Bucket="bundle", Key="dags/LinearFlow.py")["Body"].read().decode()
    assert "DAG('LinearFlow.metaflow.json')" in text
    s3.put_object(Bucket="bundle", Key="dags/other.py", Body=b"")
    # Of somebody else: neither deployed anew nor deleted.
    stranger = {**here, "METAFLOW_USER": "stranger", "METAFLOW_HOME": str(tmp_path / "home")}
    assert "production token is needed" in flow(flows / "linear.py", "create", ok=False, **stranger)
    assert "production token is needed" in flow(flows / "linear.py", "delete", ok=False, **stranger)
    assert keys(s3) == [*expected, "dags/other.py"]
    told = flow(flows / "linear.py", "delete", **here)
    assert "METAFLOW_AIRFLOW_URL is not set, so running runs were not looked for" in told
    assert keys(s3) == ["dags/other.py"]
    assert "there is no deployment at s3://bundle/dags/LinearFlow.py" in flow(
        flows / "linear.py", "delete", ok=False, **here
    )


@pytest.mark.extended
def test_a_deployment_goes_to_googles_storage_and_away_again(gcs: Any, flows: Path, tmp_path: Path) -> None:
    here = {"METAFLOW_DATASTORE_SYSROOT_LOCAL": str(tmp_path), "METAFLOW_AIRFLOW_DAGS_FOLDER": "gs://bundle/dags"}
    told = flow(flows / "linear.py", "create", **here)
    assert "was written to gs://bundle/dags/LinearFlow.py" in told
    names = sorted(blob.name for blob in gcs.list_blobs())
    assert names == ["dags/LinearFlow.metaflow.json", "dags/LinearFlow.py"]
    told = flow(flows / "linear.py", "delete", **here)
    # What is told is what was there.
    assert told.count("Removed gs://bundle/dags/LinearFlow") == 2
    assert not list(gcs.list_blobs())


def test_a_bucket_that_is_not_there_is_told_and_leaves_nothing(s3: Any, flows: Path, tmp_path: Path) -> None:
    here = {"METAFLOW_DATASTORE_SYSROOT_LOCAL": str(tmp_path)}
    told = flow(flows / "linear.py", "create", "s3://nowhere/dags/", ok=False, **here)
    assert "s3://nowhere/dags cannot be written" in " ".join(told.split())
    assert "ftp://" in flow(flows / "linear.py", "create", "ftp://x/dags/", ok=False, **here)
