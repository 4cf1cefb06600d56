"""Whether ``airflow create`` would use the DAG id or the file of another DAG, as far as the text of DAG files says."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from metaflow_orchestration.documents.manifest import SUFFIX, decode_manifest
from metaflow_orchestration.exceptions import InvalidOptionError, ManifestError

WRITTEN_BY = "written by `airflow create`"
"""Stands in each DAG file that ``create`` writes."""

_MAX_FILES = 2000
_MAX_BYTES = 2_000_000


def notices(target: Any, dag_id: str, flow: str, flow_file: str) -> Iterator[str]:
    """Yield what the user must know of other DAGs of the same file or DAG id.

    :param target: the DAG file that is to be written.
    :param dag_id: the DAG.
    :param flow: its flow.
    :param flow_file: name of the file of the flow.
    :raises InvalidOptionError: if another DAG would be overwritten.
    """
    before = _deployed_before(target, dag_id, flow)
    if before not in (None, flow_file):
        yield f"This replaces the deployment of the flow {flow} in {before} by the one in {flow_file}."
    others = others_with(dag_id, target)
    if others:
        # Not an error: the other file may be about to be removed. Airflow's parse refuses the second of the two.
        yield (
            f"Warning: flow {flow}: the DAG {dag_id!r} is made by another DAG file, too: {', '.join(others[:3])}. "
            "Airflow runs one of them only: deploy under another --name, or remove that file."
        )


def _deployed_before(target: Any, dag_id: str, flow: str) -> str | None:
    """Return the name of the flow file whose deployment is replaced."""
    try:
        text = target.read_text(encoding="utf-8")
    except Exception:  # there is none; also the errors of an object store's client
        return None
    beside = target.with_suffix(SUFFIX)
    try:
        before = decode_manifest(beside.read_bytes(), str(beside))
    except ManifestError:
        return None
    except Exception:
        if WRITTEN_BY in text:
            return None
        raise InvalidOptionError(
            f"{target} was not {WRITTEN_BY}, and would be overwritten.",
            flow=flow,
            hint="Name another FILE, or remove it by hand.",
        ) from None
    if (before.deployment.name, before.graph.name) != (dag_id, flow):
        raise InvalidOptionError(
            f"{target} is the deployment {before.deployment.name!r} of the flow {before.graph.name}, which would be "
            "overwritten.",
            flow=flow,
            hint="Name another FILE, or delete that deployment first (`airflow delete FILE`).",
        )
    return before.code.flow_file


def others_with(dag_id: str, target: Any) -> list[str]:
    """Return the DAG files beside one, or in folders below, that make a DAG of the same id.

    :param dag_id: the DAG.
    :param target: the DAG file that is written, a path or one in an object store; not among the results.
    """
    with ThreadPoolExecutor(max_workers=16) as threads:
        found = threads.map(lambda path: path if _makes(path, dag_id) else None, _files(target))
        return sorted(str(path) for path in found if path is not None)


def _files(target: Any) -> Iterator[Any]:
    folder = target.parent
    # An object store is asked for one list, not for one per folder; and what is there is written by `create`.
    names = folder.rglob("*.py") if isinstance(folder, Path) else folder.glob("*.py")
    try:
        for number, path in enumerate(names):
            if number >= _MAX_FILES:
                return
            if path.name != target.name or path.parent != folder:
                yield path
    except Exception:  # also the errors of an object store's client: writing there fails with a message of its own
        return


def _makes(path: Any, dag_id: str) -> bool:
    try:
        if isinstance(path, Path) and path.stat().st_size > _MAX_BYTES:
            return False
        text = path.read_bytes()
        beside = path.with_suffix(SUFFIX)
        if beside.name.encode() in text and beside.exists():
            return decode_manifest(beside.read_bytes(), str(beside)).deployment.name == dag_id
        calls = [_DagCall.of(node) for node in ast.walk(ast.parse(text))] if b"DAG" in text.upper() else []
        return any(call is not None and call.makes(dag_id, path.parent) for call in calls)
    except Exception:  # whatever cannot be read or parsed makes no DAG, either
        return False


class _DagCall(NamedTuple):
    """A call that makes a DAG: `DAG("x")`, `@dag(dag_id="x")`, `MetaflowDag("flow.py")`."""

    dag_id: str | None
    flow: str | None

    @classmethod
    def of(cls, node: ast.AST) -> _DagCall | None:
        if not isinstance(node, ast.Call):
            return None
        called = str(getattr(node.func, "attr", None) or getattr(node.func, "id", ""))
        if called.lower() not in ("dag", "metaflowdag"):
            return None
        named = {str(one.arg): _text(one.value) for one in node.keywords}
        given = [_text(one) for one in node.args]
        if called == "MetaflowDag":
            return cls(named.get("dag_id") or _item(given, 1), named.get("flow") or _item(given, 0))
        return cls(named.get("dag_id") or _item(given, 0), None)

    def makes(self, dag_id: str, folder: Any) -> bool:
        if self.dag_id or not self.flow:
            return self.dag_id == dag_id
        # Named after the class of the flow.
        return f"class {dag_id}(".encode() in (folder / self.flow).read_bytes()


def _text(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _item(values: list[str | None], position: int) -> str | None:
    return values[position] if position < len(values) else None
