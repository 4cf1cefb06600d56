"""A client of Airflow's REST API v2: log-in, errors in plain words, and patience with errors that pass."""

from __future__ import annotations

import shlex
import ssl
import subprocess
from collections.abc import Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx
import tenacity

from metaflow_orchestration.exceptions import MetaflowProviderError

from .endpoint import Endpoint

_COMMAND_SECONDS = 60
_MAX_REDIRECTS = 5

AirflowObject = dict[str, Any]
"""An object of Airflow's REST API, or the body of a request, as its JSON (``/api/v2`` of the API server)."""

PAGE_SIZE = 100
"""Airflow's default of ``[api] maximum_page_limit``."""


class AirflowApiError(MetaflowProviderError, RuntimeError):
    """Airflow refused a request.

    ``status`` is the HTTP status, or 0 if there was no answer.
    """

    fix = "Check METAFLOW_AIRFLOW_URL and how you log in; `metaflow-airflow doctor` tries both."

    status: int = 0


class NotFoundError(AirflowApiError):
    """Airflow does not know what was asked for."""

    fix = "Check the name, and that METAFLOW_AIRFLOW_URL is the Airflow that has it."

    status = 404


class ConflictError(AirflowApiError):
    """What was to be made exists already."""

    fix = "Use another name or run id, or delete what exists."

    status = 409


_DIRECT = {f"all://{host}": None for host in ("localhost", "127.0.0.1", "[::1]")}
"""What is on this machine is never asked by the proxy of ``http_proxy``, which cannot reach it."""


class _PassingError(Exception):
    """An error that may pass: no connection, 429, or 5xx."""

    def __init__(self, error: AirflowApiError, retry_after: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after = retry_after


class AirflowClient:
    """Sends requests to one Airflow; a context manager that closes its connections.

    :param endpoint: the Airflow.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        verify: ssl.SSLContext | bool = endpoint.verify
        if endpoint.verify and endpoint.ca_file:
            verify = ssl.create_default_context(cafile=endpoint.ca_file)
        self._http = httpx.Client(base_url=endpoint.url, timeout=endpoint.timeout, verify=verify, mounts=_DIRECT)
        self._authorized = False

    def __enter__(self) -> AirflowClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        """Call the API and return the JSON of its answer.

        A request that meets no connection, 429 or 5xx is sent again for ``patience`` seconds, so it must be one that
        may be carried out twice. An expired token is renewed once.

        :param method: HTTP method.
        :param path: path below ``/api/v2``; see :func:`path_of`.
        :param arguments: see ``httpx.Client.request``.
        :raises AirflowApiError: if Airflow refuses it or cannot be reached.
        """
        answer = self._patiently(method, f"/api/v2{path}", arguments)
        return answer.json() if answer.content else None

    def ask_plugin(self, path: str, **params: Any) -> Any | None:
        """Return what this package's plugin of the API server answers, None if there is none, or it gives no answer.

        Who asks has another way to know, which is slower; so this is tried once.

        :param path: path below ``/metaflow``.
        :param params: parameters of the query.
        """
        try:
            answer = self._once("GET", f"/metaflow{path}", {"params": params})
        except (AirflowApiError, _PassingError):
            return None
        # For an unknown path, Airflow answers with the page of its web interface.
        return answer.json() if "json" in answer.headers.get("content-type", "") else None

    def find(self, *parts: str) -> Any | None:
        """Return an object of Airflow, None if it has none of that name.

        :param parts: see :func:`path_of`, e.g. ``("pools", name)``.
        :raises AirflowApiError: see :meth:`request`.
        """
        try:
            return self.request("GET", path_of(*parts))
        except NotFoundError:
            return None

    def _patiently(self, method: str, path: str, arguments: Mapping[str, Any]) -> httpx.Response:
        backoff = tenacity.wait_exponential(multiplier=0.2, max=10) + tenacity.wait_random(0, 0.5)

        def pause(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked = error.retry_after if isinstance(error, _PassingError) else None
            return asked if asked is not None else backoff(state)

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_PassingError),
            stop=tenacity.stop_before_delay(self.endpoint.patience),
            wait=pause,
            reraise=True,
        )
        try:
            return retrying(self._once, method, path, arguments)
        except _PassingError as error:
            raise error.error from None

    def _once(self, method: str, path: str, arguments: Mapping[str, Any]) -> httpx.Response:
        if not self._authorized:
            self._log_in()
        answer = self._send(method, path, arguments)
        if answer.status_code == httpx.codes.UNAUTHORIZED and self._can_renew():
            self._log_in()
            answer = self._send(method, path, arguments)
        return _checked(answer, self.endpoint)

    def _send(self, method: str, path: str, arguments: Mapping[str, Any]) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **arguments)
            for _ in range(_MAX_REDIRECTS):
                if not answer.has_redirect_location:
                    return answer
                # The same request again; clients of the web turn a POST into a GET here, and say that all went well.
                arguments = {name: value for name, value in arguments.items() if name != "params"}
                answer = self._http.request(method, _redirected(answer, self.endpoint), **arguments)
            raise AirflowApiError(f"Airflow at {self.endpoint.url} redirects {method} {path} in circles.")
        except httpx.TransportError as error:
            raise _PassingError(
                AirflowApiError(
                    f"Airflow at {self.endpoint.url} cannot be reached ({error}).",
                    hint="Check METAFLOW_AIRFLOW_URL and that its API server runs.",
                )
            ) from None

    def _can_renew(self) -> bool:
        return self.endpoint.token is None

    def _log_in(self) -> None:
        token = self.endpoint.token or self._new_token()
        self._http.headers["Authorization"] = f"Bearer {token}"
        self._authorized = True

    def _new_token(self) -> str:
        endpoint = self.endpoint
        if endpoint.auth_command:
            return _run_auth_command(endpoint.auth_command)
        if endpoint.username:
            body = {"username": endpoint.username, "password": endpoint.password or ""}
            answer = self._send("POST", "/auth/token", {"json": body})
        else:
            # Without a name: Airflow's simple auth manager hands out a token if it lets everybody in.
            answer = self._send("GET", "/auth/token", {})
        if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN, httpx.codes.NOT_FOUND) or (
            answer.is_success and "access_token" not in answer.text
        ):
            who = f"user {endpoint.username!r}" if endpoint.username else "without a user"
            error = AirflowApiError(
                f"Airflow at {endpoint.url} refuses the log-in {who} (HTTP {answer.status_code}).",
                hint="Check METAFLOW_AIRFLOW_USERNAME and METAFLOW_AIRFLOW_PASSWORD, or give METAFLOW_AIRFLOW_TOKEN.",
            )
            error.status = answer.status_code
            raise error
        return str(_checked(answer, endpoint).json()["access_token"])


def _redirected(answer: httpx.Response, endpoint: Endpoint) -> httpx.URL:
    """Return where an answer redirects to, if that is the same server; no other one gets the credentials.

    A change from ``http`` to ``https`` on the same host is allowed.
    """
    old, new = answer.request.url, answer.request.url.join(answer.headers["Location"])
    is_upgrade = (old.scheme, new.scheme, new.host) == ("http", "https", old.host) and new.port is None
    if (old.scheme, old.host, old.port) != (new.scheme, new.host, new.port) and not is_upgrade:
        at = new.copy_with(username=None, password=None, query=None, fragment=None)
        raise AirflowApiError(
            f"Airflow at {endpoint.url} redirects {answer.request.method} {old.path} to another server, {at}, which "
            "does not get the credentials.",
            hint="Set METAFLOW_AIRFLOW_URL to the address at which Airflow itself answers. A redirect to a page for "
            "logging in means that METAFLOW_AIRFLOW_TOKEN or METAFLOW_AIRFLOW_AUTH_COMMAND is needed.",
        )
    if answer.status_code == httpx.codes.SEE_OTHER:
        raise AirflowApiError(
            f"Airflow at {endpoint.url} answered {answer.request.method} {old.path} with a redirect to the page "
            f"{new.path}, and not as its API does.",
            hint="Check that METAFLOW_AIRFLOW_URL is the address of the API server.",
        )
    return new


def path_of(*parts: str) -> str:
    """Return a path of the API, each part quoted.

    :param parts: e.g. ``("dags", dag_id)``.
    """
    return "".join(f"/{quote(part, safe='~')}" for part in parts)


def _run_auth_command(command: str) -> str:
    try:
        result = subprocess.run(
            shlex.split(command), capture_output=True, text=True, check=False, timeout=_COMMAND_SECONDS
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise AirflowApiError(f"METAFLOW_AIRFLOW_AUTH_COMMAND could not be run ({type(error).__name__}).") from None
    if result.returncode != 0 or not result.stdout.strip():
        raise AirflowApiError(
            f"METAFLOW_AIRFLOW_AUTH_COMMAND ended with status {result.returncode} and no token: "
            f"{result.stderr.strip()[-500:]}",
            hint="It must print a bearer token and nothing else.",
        )
    return result.stdout.strip()


def _checked(answer: httpx.Response, endpoint: Endpoint) -> httpx.Response:
    if not answer.is_error:
        return answer
    status = answer.status_code
    text = f"Airflow answered {answer.request.method} {answer.request.url.path} with {status}: {_detail(answer)}"
    if status == httpx.codes.TOO_MANY_REQUESTS or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        error = AirflowApiError(text)
        error.status = status
        after = answer.headers.get("Retry-After", "")
        raise _PassingError(error, min(float(after), 60.0) if after.isdigit() else None)
    hint = None
    if status == httpx.codes.UNAUTHORIZED or (status == httpx.codes.FORBIDDEN and "JWT" in text):
        hint = "The token has expired or is wrong; check METAFLOW_AIRFLOW_TOKEN."
    elif status == httpx.codes.FORBIDDEN:
        hint = f"The user {endpoint.username or 'of the token'} lacks the permission in Airflow."
    kind = {404: NotFoundError, 409: ConflictError}.get(status, AirflowApiError)
    refused = kind(text, hint=hint)
    refused.status = status
    raise refused


def _detail(answer: httpx.Response) -> str:
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = answer.text
    if isinstance(detail, list):
        detail = "; ".join(str(one.get("msg", one)) if isinstance(one, dict) else str(one) for one in detail)
    return str(detail)[:2000]
