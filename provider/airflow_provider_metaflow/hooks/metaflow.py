"""The hook: asks Metaflow's metadata service and datastore, with the settings of an Airflow connection."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow.sdk import BaseHook

from airflow_provider_metaflow import settings
from airflow_provider_metaflow.exceptions import InvalidOptionError, MetaflowQueryError

_READER = Path(__file__).with_name("reader.py")
_SECONDS = 120
_ROOTS = {
    "local": "METAFLOW_DATASTORE_SYSROOT_LOCAL",
    "s3": "METAFLOW_DATASTORE_SYSROOT_S3",
    "gs": "METAFLOW_DATASTORE_SYSROOT_GS",
    "azure": "METAFLOW_DATASTORE_SYSROOT_AZURE",
}


class MetaflowHook(BaseHook):
    """Asks about runs, artifacts and cards, and starts runs of deployed flows.

    Each question is answered by a process of its own, so that connections do not mix and Airflow's processes load
    neither Metaflow nor what is in an artifact.

    :param metaflow_conn_id: connection of type ``metaflow``. The default connection may be missing; then the
        environment of the worker counts.
    """

    conn_name_attr = "metaflow_conn_id"
    default_conn_name = "metaflow_default"
    conn_type = "metaflow"
    hook_name = "Metaflow"

    def __init__(self, metaflow_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.metaflow_conn_id = metaflow_conn_id

    def get_conn(self) -> dict[str, str]:
        """Return the settings of the connection as Metaflow's environment variables."""
        try:
            connection = self.get_connection(self.metaflow_conn_id)
        except Exception as error:
            return self._without_connection(error)
        return _variables(connection)

    async def aget_conn(self) -> dict[str, str]:
        """Return the same in a triggerer."""
        try:
            connection = await self.aget_connection(self.metaflow_conn_id)
        except Exception as error:
            return self._without_connection(error)
        return _variables(connection)

    def _without_connection(self, error: Exception) -> dict[str, str]:
        is_missing = type(error).__name__ == "AirflowNotFoundException" or "isn't defined" in str(error)
        if is_missing and self.metaflow_conn_id == self.default_conn_name:
            return {}
        raise error

    def ask(self, op: str, *, variables: Mapping[str, str] | None = None, **question: Any) -> dict[str, Any]:
        """Ask a question and return the answer; see ``reader.py``.

        :param op: name of the question.
        :param variables: further environment variables.
        :param question: its details.
        :raises MetaflowQueryError: if there is no answer.
        """
        environment = {**os.environ, **self.get_conn(), **(variables or {})}
        try:
            result = subprocess.run(
                _command(),
                input=_encode(op, question, environment),
                env=environment,
                capture_output=True,
                check=False,
                timeout=_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            tail = (error.stderr or b"").decode("utf-8", "replace").strip()[-1000:]
            raise MetaflowQueryError(f"Metaflow has not answered within {_SECONDS} s. {tail}", transient=True) from None
        return _answer(result.stdout, result.stderr)

    async def aask(self, op: str, **question: Any) -> dict[str, Any]:
        """Ask a question in a triggerer.

        :param op: name of the question.
        :param question: its details.
        :raises MetaflowQueryError: if there is no answer.
        """
        environment = {**os.environ, **await self.aget_conn()}
        process = await asyncio.create_subprocess_exec(
            *_command(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )
        try:
            data = _encode(op, question, environment)
            output, complaint = await asyncio.wait_for(process.communicate(data), _SECONDS)
        except asyncio.TimeoutError:
            raise MetaflowQueryError(f"Metaflow has not answered within {_SECONDS} s.", transient=True) from None
        finally:
            if process.returncode is None:
                process.kill()
        return _answer(output, complaint)

    def test_connection(self) -> tuple[bool, str]:
        """Tell whether Metaflow can be reached; the button of the connection's form."""
        try:
            # A form waits for the answer.
            answer = self.ask("ping", variables={"METAFLOW_SERVICE_RETRY_COUNT": "1"})
            return True, f"Metaflow can be reached: {answer.get('message')}"
        except Exception as error:
            return False, str(error)


def _command() -> list[str]:
    return [settings.python(), str(_READER)]


def _encode(op: str, question: Mapping[str, Any], environment: Mapping[str, str]) -> bytes:
    namespace = environment.get("METAFLOW_DEFAULT_NAMESPACE") or None
    return json.dumps({"op": op, "namespace": namespace, **question}).encode()


def _answer(output: bytes, complaint: bytes) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads(output)
    except ValueError:
        tail = complaint.decode("utf-8", "replace").strip()[-1000:]
        raise MetaflowQueryError(f"the process that asks Metaflow ended without an answer: {tail}") from None
    if "error" in answer:
        raise MetaflowQueryError(f"{answer['error']}.", transient=bool(answer.get("transient")))
    return answer


def _variables(connection: Any) -> dict[str, str]:
    """Return the environment variables that a connection stands for."""
    extra: dict[str, Any] = connection.extra_dejson
    variables: dict[str, str | None] = {}
    if connection.host:
        scheme = connection.schema or ("" if "://" in connection.host else "http")
        address = f"{scheme}://{connection.host}" if scheme else connection.host
        variables["METAFLOW_SERVICE_URL"] = f"{address}:{connection.port}" if connection.port else address
        variables["METAFLOW_DEFAULT_METADATA"] = "service"
    if connection.password:
        variables["METAFLOW_SERVICE_AUTH_KEY"] = connection.password
    if extra.get("headers"):
        headers = extra["headers"]
        variables["METAFLOW_SERVICE_HEADERS"] = headers if isinstance(headers, str) else json.dumps(headers)
    root = extra.get("datastore_root")
    if root:
        datastore = _datastore(str(root))
        variables["METAFLOW_DEFAULT_DATASTORE"] = datastore
        variables[_ROOTS[datastore]] = str(root).removesuffix("/.metaflow")
    variables["METAFLOW_PROFILE"] = extra.get("profile")
    variables["METAFLOW_DEFAULT_NAMESPACE"] = extra.get("namespace")
    return {name: value for name, value in variables.items() if value}


def _datastore(root: str) -> str:
    scheme, colon, _ = root.partition("://")
    datastore = scheme if colon else ("azure" if ".blob." in root else "local")
    if datastore not in _ROOTS:
        raise InvalidOptionError(
            f"the datastore root {root!r} of the connection is of no known kind.",
            hint="Use a path, s3://…, gs://…, or a container of Azure.",
        )
    return datastore
