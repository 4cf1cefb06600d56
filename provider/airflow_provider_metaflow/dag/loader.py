"""``load_flow_dags``: one DAG per flow file of a folder."""

from __future__ import annotations

import contextlib
import hashlib
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG

from airflow_provider_metaflow._compat import conf
from metaflow_orchestration.documents.manifest import SUFFIX, Manifest
from metaflow_orchestration.exceptions import (
    CacheFolderError,
    CompileServerError,
    FlowCompileError,
    InvalidOptionError,
    ManifestError,
    MetaflowProviderError,
)

from .claims import parsed_by_the_dag_processor
from .compiled import how_to_compile
from .factory import MetaflowDag
from .location import dag_folder, dag_of_task, resolved

if TYPE_CHECKING:
    from metaflow_orchestration.cache import Cache
    from metaflow_orchestration.compile.cache.entry import Entry


class BrokenFlowDag(DAG):
    """Stands for a flow that does not compile, and shows as an import error of the flow's own file.

    Airflow records one import error per file. An exception in the DAG file would hide every DAG of the file, and one
    in ``DAG.validate`` marks them all as stale; an error while a DAG is serialized is recorded under the file that this
    DAG names, and leaves the others alone (``airflow.dag_processing.processor._serialize_dags``, Airflow 3.1 to 3.3).
    """

    def __init__(self, dag_id: str, flow_file: str, error: MetaflowProviderError) -> None:
        super().__init__(dag_id, schedule=None)
        self.__dict__["_flow_file"] = flow_file
        self.__dict__["_error"] = error

    @property
    def relative_fileloc(self) -> str | None:
        """The flow file, which the import error is recorded under."""
        return self.__dict__.get("_flow_file")

    @relative_fileloc.setter
    def relative_fileloc(self, value: str | None) -> None:
        """Ignore the DAG file, which the importer sets."""

    @property
    def doc_md(self) -> str | None:
        """Raise the error as soon as the DAG is to be serialized."""
        if "_error" in self.__dict__:
            raise self.__dict__["_error"]
        return None

    @doc_md.setter
    def doc_md(self, value: str | None) -> None:
        """Keep nothing: there is no documentation of a flow that does not compile."""


def load_folder(
    namespace: dict[str, Any], folder: Path, pattern: str, caller: str, arguments: Mapping[str, Any]
) -> list[DAG]:
    """Make one DAG per flow file; see :func:`~airflow_provider_metaflow.load_flow_dags`.

    :param namespace: gets the DAGs.
    :param folder: folder of the flow files.
    :param pattern: which files.
    :param caller: the DAG file.
    :param arguments: arguments of :class:`MetaflowDag`.
    """
    root = dag_folder(caller)
    folder = resolved(folder, caller)
    if not folder.is_dir():
        raise InvalidOptionError(
            f"load_flow_dags finds no folder {folder}.", hint="Fix the path; it is relative to the DAG file."
        )
    if arguments.get("project_root") is not None:
        arguments = {**arguments, "project_root": resolved(arguments["project_root"], caller)}
    found = sorted({*folder.glob(pattern), *folder.glob(f"*{SUFFIX}")})
    paths = [path for path in found if path != Path(caller) and path.name != "__init__.py" and _is_flow(path)]
    wanted = dag_of_task()
    made = _make(paths, root, arguments, wanted)
    if wanted is not None and all(dag.dag_id != wanted for dag in made.values()):
        made = _make(paths, root, arguments, None)
    for number, (path, dag) in enumerate(made.items(), 1):
        namespace[f"metaflow_{path.name.split('.')[0]}_{number}"] = dag
    return list(made.values())


def _make(paths: Sequence[Path], root: Path, arguments: Mapping[str, Any], wanted: str | None) -> dict[Path, DAG]:
    """Make the DAGs of files; see :func:`_compile` for ``wanted``."""
    dags: dict[Path, DAG] = {}
    taken: dict[str, Path] = {}
    flows = [path for path in paths if not path.name.endswith(SUFFIX)]
    ready, waiting, left_out = _compile(flows, arguments, wanted)
    for path in paths:
        if path in left_out:
            continue
        if path in waiting:
            dag = _load_waiting(path, root, arguments, *waiting[path])
        else:
            dag = _load(path, root, arguments, ready.get(path))
        first = taken.setdefault(dag.dag_id, path)
        if first != path:
            # Airflow would fail the whole file.
            error = InvalidOptionError(f"{path.name} and {first.name} are deployments of one name, {dag.dag_id!r}.")
            dag = _broken(path, root, error)
        dags[path] = dag
    return dags


_Waiting = dict[Path, tuple["Entry", "CompileServerError | None"]]
"""Flows that are not compiled yet, with the reason if they are not being compiled either."""


def _compile(
    paths: Sequence[Path], arguments: Mapping[str, Any], wanted: str | None
) -> tuple[dict[Path, Manifest], _Waiting, frozenset[Path]]:
    """Compile flows that are not in the cache, for as long as the parse may take.

    :param wanted: in a task, its DAG: with an empty cache, as in a fresh pod, flows that it is not called after are
        left out, for Airflow ends a parse that takes too long there, too.
    :returns: those that were in the cache, those that are left, and those that are left out.
    """
    if not paths:
        return {}, {}, frozenset()
    # Here and not above: a folder of manifests pays for no compiler.
    from airflow_provider_metaflow import settings
    from metaflow_orchestration.compile.cache.entry import Entry
    from metaflow_orchestration.compile.cache.keys import Surroundings
    from metaflow_orchestration.compile.inputs.source_files import names, seen_at_once

    entries: dict[Path, Entry] = {}
    options, cache, surroundings = how_to_compile(**arguments), settings.cache(), Surroundings.now()
    ready: dict[Path, Manifest] = {}
    left_out: set[Path] = set()
    flow_name = wanted and wanted.rpartition(".")[2]
    with seen_at_once():
        for path in paths:
            # What is wrong with a flow or with the cache is said where the DAG is made.
            with contextlib.suppress(MetaflowProviderError):
                entry = Entry.of(path, options, cache, surroundings)
                manifest = entry.manifest()
                if manifest is None and flow_name and not names(path, flow_name):
                    left_out.add(path)
                elif manifest is None:
                    entries[path] = entry
                else:
                    ready[path] = manifest
                    entry.note_use()
    return ready, _compile_now(entries, cache) if entries else {}, frozenset(left_out)


def _compile_now(entries: Mapping[Path, Entry], cache: Cache) -> _Waiting:
    """Compile flows for as long as the parse may take, and return those that are left."""
    # Here and not above: most parses compile nothing.
    from metaflow_orchestration.compile.background.client import compile_for, has_ended

    seconds = _patience()
    try:
        left = compile_for(list(entries.values()), cache, seconds)
    except (OSError, CacheFolderError):
        # Each is compiled where its DAG is made, which says what is wrong.
        return {}
    except CompileServerError as error:
        return {path: (entry, error) for path, entry in entries.items() if not has_ended(entry)}
    return {} if seconds is None else {entry.path: (entry, None) for entry in left}


def _patience() -> float | None:
    """Return for how many seconds a parse may compile before Airflow ends it; None: no DAG processor waits."""
    limit = conf.getfloat("core", "dagbag_import_timeout", fallback=30.0)
    return limit / 2 if limit > 0 and parsed_by_the_dag_processor() is not None else None


def _load_waiting(
    path: Path, root: Path, arguments: Mapping[str, Any], entry: Entry, problem: CompileServerError | None
) -> DAG:
    """Make the DAG that a flow was before it was changed; an error if it was none, or is not being compiled."""
    if problem is not None:
        return _broken(path, root, FlowCompileError(problem.message, flow=path.name))
    latest = entry.latest()
    if latest is not None:
        return _load(latest, root, arguments)
    text = "it is being compiled, in the background; a later parse of this DAG file finds it."
    return _broken(path, root, FlowCompileError(text, flow=path.name))


def _is_flow(path: Path) -> bool:
    from metaflow_orchestration.compile.inputs.source_files import may_run_a_flow

    return path.name.endswith(SUFFIX) or may_run_a_flow(path)


def _load(path: Path, root: Path, arguments: Mapping[str, Any], manifest: Manifest | None = None) -> DAG:
    try:
        # One that was just read is not read again.
        return MetaflowDag(manifest or path, **arguments)  # type: ignore[arg-type]
    except MetaflowProviderError as error:
        return _broken(path, root, error)
    except Exception as error:  # whatever is wrong with one flow must not hide the others
        reason = f"{path.name} cannot be made a DAG ({type(error).__name__}: {str(error)[:500]})."
        return _broken(path, root, ManifestError(reason, hint="Fix the flow, and run `airflow create` again."))


def _broken(path: Path, root: Path, error: MetaflowProviderError) -> BrokenFlowDag:
    name = path.relative_to(root) if path.is_relative_to(root) else path
    # The id of no other: files may differ in what no id can hold.
    digest = hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", path.name.split(".")[0])[:100]
    return BrokenFlowDag(f"broken.{readable}.{digest}", str(name), error)


def load_flow_dags(namespace: dict[str, Any], folder: str | Path, pattern: str = "*.py", **arguments: Any) -> list[DAG]:
    """Make one DAG per flow file of a folder, e.g. ``load_flow_dags(globals(), "flows/")``.

    A flow that does not compile shows as an import error of its own file and hides no other DAG. Flows that were not
    compiled before are compiled side by side; when half of ``[core] dagbag_import_timeout`` has passed, those that are
    left go on in the background: until a later parse finds them, each shows as an import error, or as the DAG that it
    was before it was changed.

    ```python
    from airflow_provider_metaflow import load_flow_dags

    load_flow_dags(globals(), "flows/", pattern="train_*.py", pool="ml")
    ```

    New in version 0.1.0.

    :param namespace: ``globals()`` of the DAG file, which gets the DAGs.
    :param folder: folder of flow files and manifests; relative to the DAG file.
    :param pattern: which files.
    :param arguments: arguments of :class:`MetaflowDag` for all of them.
    """
    return load_folder(namespace, Path(folder), pattern, sys._getframe(1).f_code.co_filename, arguments)


load_flows = load_flow_dags
"""The same under its first name. Airflow's safe mode passes over files without the word ``dag``, as a DAG file of two
lines is that calls it by this name."""
