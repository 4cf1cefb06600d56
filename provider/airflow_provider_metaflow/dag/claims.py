"""Which DAG file a DAG id belongs to: of two files with one DAG id, Airflow would silently keep the one parsed last."""

from __future__ import annotations

import contextlib
import hashlib
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from airflow_provider_metaflow import settings
from airflow_provider_metaflow._compat import DagContext, conf
from metaflow_orchestration.cache import Cache, locked
from metaflow_orchestration.documents.manifest import Manifest, write_atomically
from metaflow_orchestration.documents.structs import built
from metaflow_orchestration.exceptions import CacheFolderError, InvalidOptionError

_KIND = "dag_ids"
_FILES = "dag_files"
"""The hash of each DAG file as it was when it was parsed last."""
_ATTRIBUTE = "__metaflow_dag_ids__"
_GONE = "gone"
_SECONDS = 600
"""How long a file that is not parsed again keeps a DAG id, beside the interval of Airflow's parses."""

_RENEWAL_SECONDS = 60
"""A file that has changed keeps a DAG id for as long, beside those intervals, until it is parsed: who is right is not
known before, and the runs of a DAG must not go on with another flow because of an edit."""


class DagFile(NamedTuple):
    """A DAG file that Airflow's DAG processor reads now.

    :param bundle: name of its bundle.
    :param bundle_path: folder of the bundle.
    :param path: the file.
    """

    bundle: str
    bundle_path: Path
    path: Path


@built
class _Claim(msgspec.Struct, frozen=True, kw_only=True):
    bundle: str
    path: str
    relative: str
    flow: str
    content: str
    at: float


def claim_dag_id(dag_id: str, manifest: Manifest) -> None:
    """Note that the DAG file that is read now makes a DAG.

    :param dag_id: the DAG.
    :param manifest: its flow.
    :raises InvalidOptionError: if this file makes another flow a DAG of the same id, or if another file makes one.
    """
    flow = manifest.graph.name
    module: Any = sys.modules.get(DagContext.current_autoregister_module_name or "")
    if module is not None:
        source = f"{flow} of {Path(manifest.code.flow_dir) / manifest.code.flow_file}"
        # Kept in the module, which each parse of a DAG file makes new.
        first = module.__dict__.setdefault(_ATTRIBUTE, {}).setdefault(dag_id, source)
        if first != source:
            raise InvalidOptionError(
                f"this DAG file makes the DAG {dag_id!r} of two flows, {first} and {source}; Airflow would run the "
                "last one only.",
                flow=flow,
                hint="Give each a `dag_id` of its own.",
            )
    file = parsed_by_the_dag_processor()
    if file is not None:
        # A folder that cannot be written, e.g. in a read-only container, must not keep a DAG from being parsed.
        with contextlib.suppress(CacheFolderError, OSError):
            _claim_among_files(dag_id, flow, file)


def parsed_by_the_dag_processor() -> DagFile | None:
    """Return the DAG file that Airflow's DAG processor reads in this process; None elsewhere, e.g. in a task.

    Airflow gives DAG files no name of their bundle. It stands in the request of the manager, which the function that
    reads the file holds (``airflow.dag_processing.processor._parse_file``, Airflow 3.1 to 3.3).
    """
    if "airflow.dag_processing.processor" not in sys.modules:
        return None
    frame: Any = sys._getframe(1)
    while frame is not None:
        request: Any = frame.f_locals.get("msg") if frame.f_code.co_name == "_parse_file" else None
        if type(request).__name__ == "DagFileParseRequest":
            name = str(getattr(request, "bundle_name", ""))
            return DagFile(name, Path(request.bundle_path), Path(request.file))
        frame = frame.f_back
    return None


def _claim_among_files(dag_id: str, flow: str, file: DagFile) -> None:
    cache = settings.cache()
    record = _place(cache, _KIND, dag_id, "json")
    relative = file.path.relative_to(file.bundle_path) if file.path.is_relative_to(file.bundle_path) else file.path
    own = _Claim(
        bundle=file.bundle,
        path=str(file.path),
        relative=str(relative),
        flow=flow,
        content=_content(file.path),
        at=time.time(),
    )
    parsed = _place(cache, _FILES, own.path, "sha256")
    if _text(parsed) != own.content:
        write_atomically(parsed, own.content.encode())
    with locked(record):
        other = _read(record)
        if other is not None and _still_holds(other, own, cache):
            raise InvalidOptionError(
                f"the DAG {dag_id!r} is made by another DAG file, too: {other.relative} of the bundle "
                f"{other.bundle or 'dags-folder'}, of the flow {other.flow}. Airflow would run one in the place of the "
                "other.",
                flow=flow,
                hint="Give one of them a `dag_id` of its own (`--name` of `airflow create`), or remove a file.",
            )
        if other is None or msgspec.structs.replace(other, at=own.at) != own or own.at - other.at > _RENEWAL_SECONDS:
            write_atomically(record, msgspec.json.encode(own))


def _read(record: Path) -> _Claim | None:
    try:
        return msgspec.json.decode(record.read_bytes(), type=_Claim)
    except (OSError, msgspec.MsgspecError):
        return None


def _still_holds(other: _Claim, own: _Claim, cache: Cache) -> bool:
    """Return whether another file makes the DAG: it is there, and did so when it was parsed last, not long ago."""
    if other.path == own.path or (other.bundle, other.relative) == (own.bundle, own.relative):
        return False
    content = _content(Path(other.path))
    is_changed = content != other.content
    if content == _GONE or (is_changed and _text(_place(cache, _FILES, other.path, "sha256")) == content):
        return False
    interval = conf.getint("dag_processor", "min_file_process_interval", fallback=30)
    return own.at - other.at < (_RENEWAL_SECONDS if is_changed else _SECONDS) + 4 * interval


def _place(cache: Cache, kind: str, name: str, suffix: str) -> Path:
    """Return where something is kept under a name of any form."""
    return cache.folder(kind) / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.{suffix}"


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _content(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return _GONE
