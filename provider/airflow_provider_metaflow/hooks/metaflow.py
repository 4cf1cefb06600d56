"""The hook: asks Metaflow's metadata service and datastore, with the settings of an Airflow connection."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from airflow.sdk import BaseHook

from airflow_provider_metaflow import settings
from airflow_provider_metaflow.reading.documents import Answer, NoAnswer, Question, Source
from airflow_provider_metaflow.reading.environment import reading_environment, starting_environment
from airflow_provider_metaflow.reading.index import TooLargeError, metadatum
from airflow_provider_metaflow.reading.local_files import LocalFiles, local_root
from airflow_provider_metaflow.reading.pool import POOL, GoneError, ReaderProcess
from airflow_provider_metaflow.reading.questions import Reader
from metaflow_orchestration.exceptions import InvalidOptionError, MetaflowQueryError

log = logging.getLogger(__name__)

GivenAnswer = dict[str, Any]
"""The answer of ``reading/documents.py`` that belongs to the question; only who asks knows which it is."""

_SECONDS = 120.0
_CONNECTION_SECONDS = 600.0
_READ = ("run", "artifact", "overview", "card")
_ONCE = ("trigger", "terminate")
_DEPLOYMENT = (*_ONCE, "status")
_KINDS = {"datastore": "METAFLOW_DEFAULT_DATASTORE", "metadata": "METAFLOW_DEFAULT_METADATA"}
_ROOTS = {
    "local": "METAFLOW_DATASTORE_SYSROOT_LOCAL",
    "s3": "METAFLOW_DATASTORE_SYSROOT_S3",
    "gs": "METAFLOW_DATASTORE_SYSROOT_GS",
    "azure": "METAFLOW_DATASTORE_SYSROOT_AZURE",
}


class MetaflowHook(BaseHook):
    """Asks about runs, artifacts and cards, and starts runs of deployed flows.

    What tasks have stored is never unpickled: answers come from JSON that the tasks themselves have written. A local
    datastore is read as files; anything else is asked by a long-lived process per connection, which has none of
    Airflow's own settings and secrets in its environment.

    ```python
    from airflow.sdk import task
    from airflow_provider_metaflow import MetaflowHook


    @task
    def has_finished(pathspec: str) -> bool:
        return MetaflowHook().ask("run", pathspec=pathspec)["finished"]
    ```

    New in version 0.1.0.

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
        self._known: tuple[float, dict[str, str]] | None = None

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

    def ask(
        self,
        op: str,
        *,
        variables: Mapping[str, str] | None = None,
        seconds: float = _SECONDS,
        stays: bool = False,
        **question: Any,
    ) -> GivenAnswer:
        """Ask a question and return the answer, that of ``reading/documents.py`` to this question.

        :param op: name of the question.
        :param variables: further environment variables.
        :param seconds: how long to wait for the answer.
        :param stays: whether a process that answers it is kept however long it has nothing to do; one is at most.
        :param question: its details.
        :raises MetaflowQueryError: if there is no answer.
        """
        asked = _Asked.of(op, question, {**self.get_conn(), **(variables or {})})
        if op in _ONCE:
            return _judged(asked.ask_once(seconds))
        if asked.files is not None:
            return _judged(asked.files.answer(asked.question))
        return _judged(POOL.ask(settings.python(), asked.environment, asked.question, seconds, stays=stays))

    def prepare(self, seconds: float = _SECONDS) -> bool:
        """Start the process that answers questions, if one is needed, so that nobody waits for its start.

        :param seconds: how long to wait until it is ready.
        :return: whether one is needed: a local datastore is read without.
        :raises MetaflowQueryError: if it does not get ready; its first question then says why.
        """
        asked = _Asked.of("prepare", {}, self.get_conn())
        kinds = {asked.environment.get(name, "local") for name in _KINDS.values()}
        if kinds == {"local"} and not _is_configured_by_file(asked.environment):
            return False
        _judged(POOL.ask(settings.python(), asked.environment, asked.question, seconds, stays=True))
        return True

    async def aask(self, op: str, **question: Any) -> GivenAnswer:
        """Ask a question in a triggerer.

        :param op: name of the question.
        :param question: its details.
        :raises MetaflowQueryError: if there is no answer.
        """
        # A trigger asks every few seconds, for hours; it need not ask Airflow for its connection each time.
        if self._known is None or time.monotonic() - self._known[0] > _CONNECTION_SECONDS:
            self._known = time.monotonic(), await self.aget_conn()
        asked = _Asked.of(op, question, self._known[1])
        if op in _ONCE:
            return _judged(await asyncio.to_thread(asked.ask_once, _SECONDS))
        if asked.files is not None:
            return _judged(await asyncio.to_thread(asked.files.answer, asked.question))
        return _judged(await POOL.aask(settings.python(), asked.environment, asked.question, _SECONDS))

    def test_connection(self) -> tuple[bool, str]:
        """Report whether Metaflow can be reached; the button of the connection's form."""
        try:
            # A form waits for the answer.
            answer = self.ask("ping", variables={"METAFLOW_SERVICE_RETRY_COUNT": "1"})
            return True, f"Metaflow can be reached: {answer.get('message')}"
        except Exception as error:
            return False, str(error)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question, the environment of the process that answers it, and what answers it without a process.

    :param question: the question.
    :param environment: the environment.
    :param files: reader of a local datastore that also holds the metadata.
    """

    question: Question
    environment: Mapping[str, str]
    files: Reader | None

    @classmethod
    def of(cls, op: str, question: Mapping[str, Any], variables: Mapping[str, str]) -> _Asked:
        environment = (starting_environment if op in _DEPLOYMENT else reading_environment)(variables)
        namespace = environment.get("METAFLOW_DEFAULT_NAMESPACE") or None
        # Not as variables of the process: one process answers about all deployments.
        source = cast("Source", question.get("source") or {})
        sysroot = environment.get("METAFLOW_DATASTORE_SYSROOT_LOCAL")
        # A deployment names the datastore itself, Metaflow's variable the folder that holds it.
        root = source.get("root") or (local_root(sysroot) if sysroot else None)
        kinds = {source.get(name) or environment.get(variable) for name, variable in _KINDS.items()}
        is_local = op in _READ and kinds == {"local"} and root
        files = LocalFiles(str(root), TooLargeError, metadatum) if is_local else None
        asked = cast("Question", {"op": op, "namespace": namespace, **question})
        return cls(asked, environment, Reader(files, files) if files else None)

    def ask_once(self, seconds: float) -> Answer:
        """Ask a process of its own what must not be asked twice."""
        try:
            process = ReaderProcess(settings.python(), self.environment)
        except OSError as error:
            raise MetaflowQueryError(f"the interpreter {settings.python()} cannot be started ({error}).") from None
        try:
            return process.submit(self.question).result(seconds)
        except FutureTimeoutError:
            raise MetaflowQueryError(f"Metaflow has not answered within {seconds:.0f} s.", transient=True) from None
        except GoneError:
            log.warning("The process that talks to Metaflow has ended: %s", process.last_words())
            raise MetaflowQueryError(
                "the process that talks to Metaflow has ended without an answer; the log says why."
            ) from None
        finally:
            process.close()


def _is_configured_by_file(environment: Mapping[str, str]) -> bool:
    """Whether Metaflow finds a configuration file, which may name a datastore."""
    folder = Path(environment.get("METAFLOW_HOME") or "~/.metaflowconfig").expanduser()
    return any(folder.glob("config*.json"))


def _judged(answer: Answer) -> GivenAnswer:
    if "error" in answer:
        why = cast("NoAnswer", answer)
        is_transient, is_plain = bool(why.get("transient")), bool(why.get("plain"))
        raise MetaflowQueryError(f"{why['error']}.", transient=is_transient, plain=is_plain)
    return cast("GivenAnswer", answer)


def _variables(connection: Any) -> dict[str, str]:
    """Return the environment variables that a connection stands for."""
    extra: Mapping[str, Any] = connection.extra_dejson
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
