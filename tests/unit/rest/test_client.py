"""The client against an API that refuses, fails, and lets tokens expire."""

from __future__ import annotations

import sys
import time

import httpx
import pytest
from tests.support.airflow_api import AirflowApi

from airflow_provider_metaflow.rest.client import AirflowApiError, AirflowClient, ConflictError, NotFoundError, path_of
from airflow_provider_metaflow.rest.endpoint import Endpoint


def test_without_a_user_the_token_that_everybody_gets_is_used_for_all_requests(
    api: AirflowApi, client: AirflowClient
) -> None:
    api.add_dag("a")
    for _ in range(2):
        assert client.request("GET", "/dags/a")["dag_id"] == "a"
    assert [path for _, path, _ in api.requests] == ["/auth/token", "/api/v2/dags/a", "/api/v2/dags/a"]


@pytest.mark.parametrize("variable", ["http_proxy", "ALL_PROXY"])
def test_an_airflow_on_this_machine_is_not_asked_through_a_proxy(
    api: AirflowApi, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    for host in ("127.0.0.1", "localhost"):
        with AirflowClient(Endpoint(url=api.url.replace("127.0.0.1", host), patience=1)) as client:
            assert client.request("GET", "/dags")["total_entries"] == 0
    with (
        AirflowClient(Endpoint(url="http://airflow.example", patience=0)) as client,
        pytest.raises(AirflowApiError, match="refused"),
    ):
        client.request("GET", "/dags")


def test_a_user_logs_in_with_a_password_and_a_wrong_one_is_told_without_it(api: AirflowApi) -> None:
    api.users["ann"] = "right"
    api.add_dag("a")
    with AirflowClient(Endpoint(url=api.url, username="ann", password="right")) as client:
        assert client.find("dags", "a") is not None
    with AirflowClient(Endpoint(url=api.url, username="ann", password="wr0ng")) as client:
        with pytest.raises(AirflowApiError, match=r"refuses the log-in user 'ann' \(HTTP 401\)") as caught:
            client.find("dags", "a")
    assert caught.value.status == 401
    assert "wr0ng" not in str(caught.value)
    with AirflowClient(Endpoint(url=api.url)) as client:
        with pytest.raises(AirflowApiError, match="refuses the log-in without a user"):
            client.find("dags", "a")


def test_an_answer_to_the_log_in_that_holds_no_token_is_a_refusal(api: AirflowApi, client: AirflowClient) -> None:
    api.refuse["GET", "/auth/token"] = [(200, {"page": "of a proxy"})]
    with pytest.raises(AirflowApiError, match=r"refuses the log-in without a user \(HTTP 200\)"):
        client.request("GET", "/dags")


def test_an_expired_token_is_renewed_once_and_one_that_was_given_is_not(api: AirflowApi, client: AirflowClient) -> None:
    api.add_dag("a")
    client.request("GET", "/dags/a")
    api.tokens.clear()
    assert client.request("GET", "/dags/a")["dag_id"] == "a"
    assert api.paths("GET").count("/auth/token") == 2
    before = len(api.requests)
    with AirflowClient(Endpoint(url=api.url, token="mine")) as given:
        with pytest.raises(AirflowApiError, match="The token has expired or is wrong") as caught:
            given.request("GET", "/dags/a")
    assert caught.value.status == 401
    assert len(api.requests) == before + 1


@pytest.mark.subprocess
def test_a_command_gives_the_token_and_its_failure_is_told_by_its_end(api: AirflowApi) -> None:
    api.tokens.add("t0ken")
    api.add_dag("a")

    def run(code: str) -> object:
        command = f"{sys.executable} -c '{code}'"
        with AirflowClient(Endpoint(url=api.url, auth_command=command)) as client:
            return client.find("dags", "a")

    assert run('print("t0ken")') is not None
    with pytest.raises(AirflowApiError, match="ended with status 3 and no token: no luck"):
        run('import sys; print("no luck", file=sys.stderr); sys.exit(3)')
    with pytest.raises(AirflowApiError, match="ended with status 0 and no token"):
        run("pass")
    with AirflowClient(Endpoint(url=api.url, auth_command="/no/such/command")) as client:
        with pytest.raises(AirflowApiError, match=r"could not be run \(FileNotFoundError\)"):
            client.find("dags", "a")


@pytest.mark.parametrize("status", [429, 500, 502, 503, 0])
def test_an_error_that_passes_is_waited_out(api: AirflowApi, client: AirflowClient, status: int) -> None:
    api.add_dag("a")
    api.refuse["GET", "/dags/a"] = [status]
    assert client.request("GET", "/dags/a")["dag_id"] == "a"
    assert api.paths("GET").count("/dags/a") == 2


def test_a_server_says_how_long_to_wait(api: AirflowApi, client: AirflowClient) -> None:
    api.add_dag("a")
    api.refuse["GET", "/dags/a"] = [(429, {"detail": "slow down", "headers": {"Retry-After": "1"}})]
    began = time.monotonic()
    client.request("GET", "/dags/a")
    assert time.monotonic() - began >= 1


def test_an_error_that_does_not_pass_is_told_when_patience_ends(api: AirflowApi) -> None:
    api.refuse["GET", "/dags/a"] = [503] * 99
    with AirflowClient(Endpoint(url=api.url, patience=0.5)) as client:
        with pytest.raises(AirflowApiError, match=r"answered GET /api/v2/dags/a with 503: out of order") as caught:
            client.request("GET", "/dags/a")
    assert caught.value.status == 503


def test_an_airflow_that_is_not_there_is_told_with_the_setting_to_check() -> None:
    with AirflowClient(Endpoint(url="http://127.0.0.1:9", patience=0)) as client:
        with pytest.raises(AirflowApiError, match=r"cannot be reached .* Check METAFLOW_AIRFLOW_URL") as caught:
            client.request("GET", "/dags")
    assert caught.value.status == 0


@pytest.mark.parametrize(
    ("status", "answer", "kind", "told"),
    [
        (404, {"detail": "The Dag was not found"}, NotFoundError, "The Dag was not found"),
        (409, {"detail": "exists"}, ConflictError, "exists"),
        (403, {"detail": "Forbidden"}, AirflowApiError, "The user of the token lacks the permission in Airflow."),
        (403, {"detail": "Invalid JWT token"}, AirflowApiError, "The token has expired or is wrong"),
        (422, {"detail": [{"msg": "Field required", "loc": ["x"]}, "odd"]}, AirflowApiError, "Field required; odd"),
        (400, ["no", "object"], AirflowApiError, '"no"'),
    ],
)
def test_a_refusal_is_told_in_airflows_words_and_is_not_repeated(
    api: AirflowApi, client: AirflowClient, status: int, answer: object, kind: type[AirflowApiError], told: str
) -> None:
    api.refuse["GET", "/dags/a"] = [(status, answer)]  # type: ignore[list-item]
    with pytest.raises(kind) as caught:
        client.request("GET", "/dags/a")
    assert type(caught.value) is kind
    assert told in str(caught.value)
    assert caught.value.status == status
    assert api.paths("GET").count("/dags/a") == 1


def test_what_is_not_there_is_none_and_other_refusals_are_errors(api: AirflowApi, client: AirflowClient) -> None:
    assert client.find("pools", "gpu") is None
    api.pools["g/pu"] = {"name": "g/pu"}
    api.refuse["GET", "/pools/gpu"] = [403]
    with pytest.raises(AirflowApiError):
        client.find("pools", "gpu")


def test_names_are_quoted_in_paths() -> None:
    assert path_of("dags", "a/b c", "dagRuns", "manual__2026-01-01T00:00:00+00:00") == (
        "/dags/a%2Fb%20c/dagRuns/manual__2026-01-01T00%3A00%3A00%2B00%3A00"
    )


def test_an_unknown_certificate_authority_is_an_error_when_the_client_is_made(tmp_path: object) -> None:
    with pytest.raises(FileNotFoundError):
        AirflowClient(Endpoint(url="https://a", ca_file=f"{tmp_path}/none.pem"))
    with AirflowClient(Endpoint(url="https://a", verify=False, ca_file=f"{tmp_path}/none.pem")) as client:
        assert isinstance(client._http, httpx.Client)
