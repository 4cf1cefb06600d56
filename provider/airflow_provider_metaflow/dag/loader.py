"""``load_flows``: one DAG per flow file of a folder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from airflow_provider_metaflow.exceptions import InvalidOptionError, ManifestError, MetaflowProviderError
from airflow_provider_metaflow.flow.manifest import SUFFIX

from .factory import MetaflowDag
from .location import dag_folder, resolved


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
    """Make one DAG per flow file; see :func:`~airflow_provider_metaflow.load_flows`.

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
            f"load_flows finds no folder {folder}.", hint="Mend the path; it is relative to the DAG file."
        )
    dags: list[DAG] = []
    taken: dict[str, Path] = {}
    for path in sorted({*folder.glob(pattern), *folder.glob(f"*{SUFFIX}")}):
        if path == Path(caller) or path.name == "__init__.py" or not _is_flow(path):
            continue
        dag = _load(path, root, arguments)
        first = taken.setdefault(dag.dag_id, path)
        if first != path:
            # Airflow would fail the whole file.
            error = InvalidOptionError(f"{path.name} and {first.name} are deployments of one name, {dag.dag_id!r}.")
            dag = _broken(path, root, error)
        dags.append(dag)
        namespace[f"metaflow_{path.name.split('.')[0]}_{len(dags)}"] = dag
    return dags


def _is_flow(path: Path) -> bool:
    """Tell flow files from helper modules without running them; one that cannot be read fails where it is loaded."""
    if path.name.endswith(SUFFIX) or not path.is_file():
        return path.name.endswith(SUFFIX)
    try:
        return b"FlowSpec" in path.read_bytes()
    except OSError:
        return True


def _load(path: Path, root: Path, arguments: Mapping[str, Any]) -> DAG:
    try:
        return MetaflowDag(path, **arguments)
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
