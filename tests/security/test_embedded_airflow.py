"""The Airflow of `airflow test` and `make demo` runs code for its user alone, whoever else is on the machine."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from airflow_provider_metaflow.embedded.airflow import USER, EmbeddedAirflow
from airflow_provider_metaflow.rest import dags

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedAirflow]:
    home = tmp_path_factory.mktemp("home")
    home.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAFLOW_AIRFLOW_TOKEN", "token-for-production")
        umask = os.umask(0o002)
        try:
            with EmbeddedAirflow(home=home) as started:
                yield started
        finally:
            os.umask(umask)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def password(server: EmbeddedAirflow) -> str:
    return str(json.loads(server.passwords.read_text())[USER])


def listening(server: EmbeddedAirflow) -> set[str]:
    """Return the addresses, as hexadecimal numbers, at which processes of the Airflow listen for TCP."""
    inodes = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                inodes[f"socket:[{fields[9]}]"] = fields[1]
    # Processes that set their title overwrite their environment; each of those that were started leads a session.
    sessions = {process.pid for process in server._processes.values()}
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getsid(int(process.name)) in sessions:
                links = {str(one.readlink()) for one in (process / "fd").iterdir()}
                found |= {inodes[one] for one in links & inodes.keys()}
    return found


def test_nobody_gets_in_without_the_password(server: EmbeddedAirflow) -> None:
    assert httpx.get(f"{server.url}/api/v2/dags").status_code == 401
    assert httpx.get(f"{server.url}/auth/token").status_code in (401, 403)
    assert httpx.post(f"{server.url}/auth/token", json={"username": USER, "password": USER}).status_code == 401
    assert httpx.post(f"{server.url}/auth/token", json={}).status_code in (400, 401, 422)


def test_whoever_reads_the_password_logs_in_as_admin_and_our_client_does(server: EmbeddedAirflow) -> None:
    body = {"username": USER, "password": password(server)}
    assert len(body["password"]) >= 20
    token = httpx.post(f"{server.url}/auth/token", json=body).json()["access_token"]
    pools = httpx.get(f"{server.url}/api/v2/pools", headers={"Authorization": f"Bearer {token}"})
    assert pools.status_code == 200
    assert list(dags.list_dags(server.client)) == []


def test_other_users_can_read_nothing_of_it(server: EmbeddedAirflow) -> None:
    assert mode(server.home) == 0o700
    assert mode(server.home / "airflow.db") == 0o600
    assert mode(server.passwords) == 0o600
    assert mode(server.home / "secret") == 0o600


def test_it_listens_on_the_loopback_only(server: EmbeddedAirflow) -> None:
    addresses = {one.rpartition(":")[0] for one in listening(server)}
    assert addresses == {"0100007F"}


def test_its_password_is_in_no_log_and_in_no_process_list(server: EmbeddedAirflow) -> None:
    secret = password(server).encode()
    for log in server.home.rglob("*.log"):
        assert secret not in log.read_bytes(), log
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            assert secret not in (process / "cmdline").read_bytes()


def test_it_is_not_given_the_credentials_for_another_airflow(server: EmbeddedAirflow) -> None:
    assert "token-for-production" not in str(server.environment())


def test_two_of_them_have_different_passwords_and_one_keeps_its_own(tmp_path: Path) -> None:
    first, second = EmbeddedAirflow(home=tmp_path / "one"), EmbeddedAirflow(home=tmp_path / "two")
    given = [one.environment()["METAFLOW_AIRFLOW_PASSWORD"] for one in (first, second, first)]
    assert given[0] == given[2] != given[1]
