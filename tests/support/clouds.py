"""Azure's and Google's object stores by their emulators, with a server of tokens in the place of their log-ins."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from tests.harness import builds

CONTAINER = "flows"
_AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account key that Azurite's documentation publishes."""


def _programs() -> Path:
    """Where ``scripts/object_stores.sh`` puts the emulators."""
    builds.wait("object-stores")
    # Where nothing was built before the tests.
    subprocess.run(["scripts/object_stores.sh"], cwd=builds.ROOT, check=True)
    return Path(os.environ.get("TEST_OBJECT_STORES_HOME", Path.home() / ".cache/test-object-stores"))


@dataclass
class Cloud:
    """An object store: what makes Metaflow use it here, and what in a pod; files that both need, by name."""

    kind: str
    root: str
    environment: dict[str, str]
    secret: dict[str, str]
    files: dict[str, Path]


@contextmanager
def token_server(host: str) -> Iterator[str]:
    """Give tokens to whoever asks: Azure's managed identities by GET, Google's accounts by POST."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer({"access_token": _azure_token(), "expires_on": str(int(time.time()) + 3600), "resource": "x"})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.answer({"access_token": "google-token", "expires_in": 3600})

        def answer(self, content: dict[str, Any]) -> None:
            data = json.dumps({**content, "token_type": "Bearer"}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Be silent."""

    server = ThreadingHTTPServer((host, 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{host}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def _azure_token() -> str:
    """A token of the claims that Azurite checks; it checks no signature."""
    now = int(time.time())
    claims = {
        "aud": "https://storage.azure.com",
        "iss": "https://sts.windows.net/ab1f708d-50f6-404c-a006-d71b2ac7a606/",
        "iat": now - 60,
        "nbf": now - 60,
        "exp": now + 3600,
    }
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "JWT"}, claims)] + [b"none"]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


@contextmanager
def azure(host: str, port: int, folder: Path, pod_folder: str) -> Iterator[Cloud]:
    """Azurite over TLS, as Azure's client wants it for tokens."""
    home = _programs()
    cert, key = folder / "azure.pem", folder / "azure.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", str(key), "-out",
         str(cert), "-subj", "/CN=azurite", "-addext", f"subjectAltName=IP:{host}"],
        check=True, capture_output=True,
    )  # fmt: skip
    with (folder / "azurite.log").open("wb") as log, token_server(host) as tokens:
        process = subprocess.Popen(
            [str(home / "node_modules/.bin/azurite-blob"), "--blobHost", host, "--blobPort", str(port), "--oauth",
             "basic", "--cert", str(cert), "--key", str(key), "--location", str(folder / "azurite"), "--silent",
             "--skipApiVersionCheck"],
            stdout=log, stderr=log,
        )  # fmt: skip
        try:
            endpoint = f"https://{host}:{port}/devstoreaccount1"
            _make_container(endpoint, cert)
            shared = {
                "METAFLOW_DEFAULT_DATASTORE": "azure",
                "METAFLOW_DATASTORE_SYSROOT_AZURE": f"{CONTAINER}/metaflow",
                "METAFLOW_AZURE_STORAGE_BLOB_SERVICE_ENDPOINT": endpoint,
            }
            login = {"IDENTITY_ENDPOINT": f"{tokens}/azure", "IDENTITY_HEADER": "x"}
            yield Cloud(
                kind="azure",
                root=f"{CONTAINER}/metaflow",
                environment={**shared, **login, "REQUESTS_CA_BUNDLE": str(cert)},
                secret={**login, "REQUESTS_CA_BUNDLE": f"{pod_folder}/azure.pem"},
                files={"azure.pem": cert},
            )
        finally:
            process.kill()
            process.wait()


def _make_container(endpoint: str, cert: Path) -> None:
    from azure.core.exceptions import ServiceRequestError
    from azure.storage.blob import BlobServiceClient

    account = {"account_name": "devstoreaccount1", "account_key": _AZURITE_KEY}
    client = BlobServiceClient(endpoint, credential=account, connection_verify=str(cert), retry_total=0)
    end = time.monotonic() + 60
    made = False
    while not made:
        with suppress(ServiceRequestError):
            client.create_container(CONTAINER)
            made = True
        assert made or time.monotonic() < end, "Azurite did not start"
        time.sleep(0.2)


@contextmanager
def google(host: str, port: int, folder: Path, pod_folder: str) -> Iterator[Cloud]:
    """fake-gcs-server."""
    key = subprocess.run(["openssl", "genrsa", "2048"], check=True, capture_output=True, text=True).stdout
    emulator = {"STORAGE_EMULATOR_HOST": f"http://{host}:{port}"}
    with (folder / "google.log").open("wb") as log:
        process = subprocess.Popen(
            [str(_programs() / "fake-gcs-server"), "-scheme", "http", "-host", host, "-port", str(port), "-backend",
             "memory", "-external-url", emulator["STORAGE_EMULATOR_HOST"], "-public-host", f"{host}:{port}"],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        _make_bucket(emulator["STORAGE_EMULATOR_HOST"])
        with token_server(host) as tokens:
            account = folder / "google.json"
            account.write_text(
                json.dumps(
                    {
                        "type": "service_account",
                        "project_id": "tests",
                        "private_key_id": "1",
                        "private_key": key,
                        "client_email": "tests@example.org",
                        "client_id": "1",
                        "token_uri": f"{tokens}/google",
                    }
                )
            )
            yield Cloud(
                kind="gs",
                root=f"gs://{CONTAINER}/metaflow",
                environment={
                    "METAFLOW_DEFAULT_DATASTORE": "gs",
                    "METAFLOW_DATASTORE_SYSROOT_GS": f"gs://{CONTAINER}/metaflow",
                    "GOOGLE_APPLICATION_CREDENTIALS": str(account),
                    **emulator,
                },
                secret={**emulator, "GOOGLE_APPLICATION_CREDENTIALS": f"{pod_folder}/google.json"},
                files={"google.json": account},
            )
    finally:
        process.kill()
        process.wait()


def _make_bucket(endpoint: str) -> None:
    retry = Retry(total=30, backoff_factor=0.1, backoff_max=1)
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=retry))
        session.post(f"{endpoint}/storage/v1/b?project=tests", json={"name": CONTAINER}, timeout=60).raise_for_status()
