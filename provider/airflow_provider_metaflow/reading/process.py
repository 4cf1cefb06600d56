"""Answers questions about Metaflow's runs in a process of its own, one JSON object a line in and out.

A request is ``{"id": …, "question": {…}}`` and its answer ``{"id": …, "answer": {…}}``. Airflow's own processes never
import Metaflow: it reads its configuration when it is imported, and connections must not mix. The process ends when
its standard input does. It runs as a script of the steps' interpreter: standard library and Metaflow only.
"""

from __future__ import annotations

import json
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

# This file runs as a script, of an interpreter that need not have this package; its folder is a package of its own.
sys.path.insert(0, str(Path(__file__).parents[1]))
from reading.index import CannotAnswerError, TooLargeError, metadatum  # type: ignore[import-not-found]
from reading.local_files import LocalFiles  # type: ignore[import-not-found]
from reading.questions import Reader  # type: ignore[import-not-found]
from reading.remote_stores import RemoteStore, S3Store  # type: ignore[import-not-found]

sys.path.pop(0)

if TYPE_CHECKING:
    from airflow_provider_metaflow.reading.documents import (
        Answer,
        Done,
        NoAnswer,
        Question,
        RunAnswer,
        Source,
        StatusQuestion,
        TerminateAnswer,
        TriggerAnswer,
        TriggerQuestion,
    )

_THREADS = 8
_MAX_SOURCES = 32
_FIELDS = ("attempt", "attempt-done", "attempt_ok", "start_step", "end_step")


def main() -> None:
    """Serve until standard input ends."""
    # What is printed must not look like an answer.
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lock = threading.Lock()
    failure, reader = _reader()

    def reply(request: Mapping[str, Any]) -> None:
        answer = failure or _answer(reader, request["question"])
        line = json.dumps({"id": request["id"], "answer": answer})
        with lock:
            output.write(line + "\n")
            output.flush()

    threads = ThreadPoolExecutor(_THREADS)
    idle_seconds = float(sys.argv[sys.argv.index("--idle") + 1])
    for line in _lines(idle_seconds if idle_seconds > 0 else None):
        request = json.loads(line)
        if request["question"]["op"] in _DEPLOYMENT:
            # Metaflow's Deployer handles signals, which is for the main thread alone.
            reply(request)
        else:
            threads.submit(reply, request)
    # Nobody waits for what is still being read.
    os._exit(0)


def _lines(idle_seconds: float | None) -> Iterator[bytes]:
    """Yield the lines of standard input until it ends, or none has come for a while."""
    buffer = b""
    while select.select([0], [], [], idle_seconds)[0]:
        data = os.read(0, 1 << 16)
        if not data:
            return
        *lines, buffer = (buffer + data).split(b"\n")
        yield from lines


def _reader() -> tuple[NoAnswer | None, Any]:
    try:
        import metaflow  # noqa: F401
    except ImportError as error:
        return {"error": f"{sys.executable} cannot import Metaflow ({error})", "transient": False}, None
    return None, _Lazy()


class _Lazy:
    """Makes a reader per source when it is first asked, since a wrong setting must be an answer, too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers: dict[str, Reader] = {}
        # Not that of the requests, which wait for what runs here.
        self._pool = ThreadPoolExecutor(_THREADS)

    def get(self, source: Source) -> Any:
        """Return the reader.

        :param source: ``metadata``, ``datastore`` and ``root``; what is missing is as Metaflow is configured.
        """
        key = json.dumps(source, sort_keys=True)
        with self._lock:
            if key not in self._readers:
                if not self._readers:
                    refuse_pickles()
                elif len(self._readers) >= _MAX_SOURCES:
                    del self._readers[next(iter(self._readers))]
                self._readers[key] = Reader(*_sources(source), self._pool)
            return self._readers[key]


def refuse_pickles() -> None:
    """Let this process load no pickle that names a class or function: nothing here has to, see ``questions.py``.

    Whatever a later Metaflow does behind its interfaces, what tasks have stored gets no code run here.
    """

    def check(event: str, arguments: tuple[Any, ...]) -> None:
        # https://docs.python.org/3/library/audit_events.html
        if event == "pickle.find_class":
            name = ".".join(map(str, arguments[:2]))
            raise RuntimeError(f"{name} of a pickle is not loaded by a process that reads for Airflow")

    sys.addaudithook(check)


def _answer(reader: _Lazy, question: Question) -> Answer:
    from metaflow.exception import MetaflowException, MetaflowNotFound

    try:
        return _answer_of(reader, question)
    except CannotAnswerError as error:
        return {"error": str(error), "transient": False}
    except MetaflowNotFound as error:
        return {"exists": False, "message": str(error)}
    except MetaflowException as error:
        return {"error": f"{error.headline}: {error}", "transient": True}
    except Exception as error:  # reported to whoever asks
        return {"error": f"{type(error).__name__}: {error}", "transient": isinstance(error, OSError)}


def _answer_of(reader: _Lazy, question: Question) -> Answer:
    if question["op"] == "ping":
        return _ping()
    if question["op"] in _DEPLOYMENT:
        import metaflow

        metaflow.namespace(question.get("namespace"))
        return _DEPLOYMENT[question["op"]](question)
    source: Source = question.get("source") or {}
    if question["op"] == "prepare":
        return _prepare(reader, source)
    answer: Answer = reader.get(source).answer(question)
    return answer


def _prepare(reader: _Lazy, source: Source) -> Done:
    """Import what the first question would wait for, and open the connection to the datastore."""
    reader.get(source).prepare()
    return {"message": "prepared"}


def _provider(wanted: str = "") -> tuple[Any, str, str]:
    """Return the metadata provider, its kind and what it is at.

    :param wanted: the kind; default: as Metaflow is configured.
    """
    import metaflow
    from metaflow.plugins import METADATA_PROVIDERS

    kind, _, where = metaflow.get_metadata().partition("@")
    if wanted and wanted != kind:
        found = [one for one in METADATA_PROVIDERS if wanted == one.TYPE]
        if not found:
            raise CannotAnswerError(f"Metaflow has no metadata provider of the type {wanted}")
        return found[0], wanted, str(found[0].INFO or "")
    return next(one for one in METADATA_PROVIDERS if kind == one.TYPE), kind, where


def _sources(source: Source) -> tuple[Any, Any]:
    from metaflow.metaflow_config import DEFAULT_DATASTORE
    from metaflow.plugins import DATASTORES

    provider, kind, where = _provider(source.get("metadata", ""))
    datastore = source.get("datastore") or DEFAULT_DATASTORE
    storages = [one for one in DATASTORES if datastore == one.TYPE]
    if not storages:
        raise CannotAnswerError(f"Metaflow has no datastore of the type {datastore}")
    root = source.get("root") or storages[0].get_datastore_root_from_config(lambda *_: None, create_on_absent=False)
    if datastore == kind == "local" and not root:
        # A sensor would wait without end for what lies where this process does not look.
        raise CannotAnswerError(
            f"Metaflow's datastore is local here, but METAFLOW_DATASTORE_SYSROOT_LOCAL is not set, and no folder "
            f".metaflow is in {Path.cwd()} or above it. Set the variable for Airflow's workers and triggerer to the "
            "folder of the deployment, or name it in the connection as datastore_root"
        )
    store: Any = LocalFiles(root or os.devnull, TooLargeError, metadatum)
    if datastore != "local":
        if not root:
            raise CannotAnswerError(f"the root of the datastore {datastore} is not known; name it in the connection")
        store = (S3Store if datastore == "s3" else RemoteStore)(storages[0](root))
    if kind == "local":
        # `local@FOLDER`, with or without the name of the datastore's folder.
        folder = where if Path(where).name == ".metaflow" else str(Path(where) / ".metaflow")
        return LocalFiles(folder, TooLargeError, metadatum), store
    return ProviderIndex(provider), store


class ProviderIndex:
    """An ``Index`` over a metadata provider, whose objects are JSON; none of them holds a pickle.

    :param provider: class of the provider.
    """

    def __init__(self, provider: Any) -> None:
        self._provider = provider

    def run(self, flow: str, run: str) -> Any:
        """Return what is registered of a run, None if there is none."""
        return self._provider.get_object("run", "self", None, None, flow, run)

    def steps(self, flow: str, run: str) -> list[str]:
        """Return the steps of a run, the first to start first."""
        found = self._provider.get_object("run", "step", None, None, flow, run) or ()
        return [str(one["step_name"]) for one in sorted(found, key=_time)]

    def tasks(self, flow: str, run: str, step: str) -> list[str]:
        """Return the tasks of a step, the first to start first."""
        found = self._provider.get_object("step", "task", None, None, flow, run, step) or ()
        return [str(one.get("task_name") or one["task_id"]) for one in sorted(found, key=_time)]

    def metadata(self, flow: str, run: str, step: str, task: str) -> list[Any]:
        """Return the metadata of a task about its attempts and the graph, the oldest first."""
        found = self._provider.get_object("task", "metadata", None, None, flow, run, step, task) or ()
        return [metadatum(one) for one in sorted(found, key=_time) if one.get("field_name") in _FIELDS]


def _time(one: Mapping[str, Any]) -> Any:
    return one.get("ts_epoch") or 0


def _ping() -> Done:
    """Ask the metadata service for its version, or look whether the local datastore is there."""
    provider, kind, where = _provider()
    if kind == "local":
        if not Path(where).is_dir():
            raise CannotAnswerError(f"there is no local datastore at {where}")
        return {"message": f"local metadata in {where}"}
    return {"message": f"metadata service {provider._version(None)} at {where}"}


def _trigger(question: TriggerQuestion) -> TriggerAnswer:
    """Start a run of a deployed flow. ``deployment``, ``impl``, ``parameters``."""
    from metaflow import DeployedFlow

    deployed = DeployedFlow.from_deployment(question["deployment"], impl=question["impl"])
    return {"pathspec": deployed.trigger(**question["parameters"]).pathspec}


def _status(question: StatusQuestion) -> RunAnswer:
    """Report how far a triggered run is. ``deployment``, ``impl``, ``pathspec``."""
    status = _triggered(question).status
    text = None if status is None else str(status).upper()
    done = text is not None and text not in ("PENDING", "RUNNING")
    return {"exists": status is not None, "finished": done, "successful": text == "SUCCEEDED", "status": text}


def _terminate(question: StatusQuestion) -> TerminateAnswer:
    """End a triggered run. ``deployment``, ``impl``, ``pathspec``."""
    return {"terminated": bool(_triggered(question).terminate())}


def _triggered(question: StatusQuestion) -> Any:
    from metaflow import DeployedFlow

    run_id = question["pathspec"].rpartition("/")[2]
    return DeployedFlow.get_triggered_run(question["deployment"], run_id, impl=question["impl"])


_DEPLOYMENT: dict[str, Callable[[Any], Answer]] = {"trigger": _trigger, "status": _status, "terminate": _terminate}

if __name__ == "__main__":
    if not getattr(sys.flags, "safe_path", False):
        sys.path.pop(0)  # this file's folder
    main()
