"""The manifest of a flow that a DAG file names: read, or compiled from the flow file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from metaflow_orchestration.cache import MANIFESTS
from metaflow_orchestration.documents.manifest import SUFFIX, Manifest, read_manifest

from .location import resolved, runs_a_task

_ROOT_SETTING = "METAFLOW_DATASTORE_SYSROOT_LOCAL"

if TYPE_CHECKING:
    from metaflow_orchestration.compile.options import CompileOptions


def find_manifest(
    flow: str | Path | Manifest,
    caller: str,
    name: str | None,
    options: Sequence[str],
    compile_options: Sequence[str],
    python: str | None,
    project_root: str | Path | None = None,
) -> Manifest:
    """Return the manifest of a flow.

    :param flow: a flow file, the file of a manifest, or a manifest that was compiled here.
    :param caller: the file that names it, which a relative path is relative to.
    :param name: the DAG id.
    :param options: options before the subcommand.
    :param compile_options: options of ``create``.
    :param python: interpreter that has the flow's imports.
    :param project_root: folder that the flow is started from.
    :raises MetaflowProviderError: if it cannot be read, or does not compile.
    """
    if isinstance(flow, Manifest):
        return _in_place(flow)
    path = resolved(flow, caller)
    if path.name.endswith(SUFFIX):
        manifest = read_manifest(path)
        _warn_of_missing_folder(manifest)
        return _in_place(manifest) if is_cached(path) else manifest
    # Here and not above: a DAG file that names a manifest pays for no compiler.
    from airflow_provider_metaflow import settings
    from metaflow_orchestration.compile.compiler import load_manifest

    root = None if project_root is None else resolved(project_root, caller)
    how = how_to_compile(name, options=options, compile_options=compile_options, python=python, project_root=root)
    manifest = load_manifest(path, how, settings.cache(), remember_failures=True)
    _warn_of_folder_in_dags(manifest, {path.parent, root or path.parent})
    return _in_place(manifest)


def _in_place(manifest: Manifest) -> Manifest:
    return msgspec.structs.replace(manifest, compiled_in_place=True)


def is_cached(manifest: Path) -> bool:
    """Return whether a manifest lies in the cache of what was compiled, where no user has put it.

    :param manifest: the file.
    """
    if manifest.parent.name != MANIFESTS:
        return False
    from airflow_provider_metaflow import settings

    return manifest.parent.parent == settings.cache().root


def _warn_of_missing_folder(manifest: Manifest) -> None:
    """Airflow shows it as a warning of the DAG."""
    root = manifest.command.datastore_root
    if manifest.code.datastore == "local" and not os.path.isdir(root):  # noqa: PTH112  (it costs each parse)
        warnings.warn(
            f"flow {manifest.graph.name}: its datastore, the folder {root}, is not on this machine, so that steps find "
            "neither code nor inputs where that is so for workers, too. Mount it, or deploy with --datastore=s3.",
            stacklevel=3,
        )


def _warn_of_folder_in_dags(manifest: Manifest, folders: Collection[Path]) -> None:
    root = Path(manifest.command.datastore_root)
    if manifest.code.datastore == "local" and root.parent in folders and _ROOT_SETTING not in os.environ:
        warnings.warn(
            f"flow {manifest.graph.name}: its runs are kept in {root}, beside the flow file. Set {_ROOT_SETTING} to a "
            "folder that all workers see.",
            stacklevel=3,
        )


def how_to_compile(
    dag_id: str | None = None,
    *,
    options: Sequence[str] = (),
    compile_options: Sequence[str] = (),
    python: str | None = None,
    project_root: Path | None = None,
    **_: Any,
) -> CompileOptions:
    """Return how :class:`MetaflowDag` compiles a flow, given its arguments.

    :param dag_id: the DAG id.
    :param options: options before the subcommand.
    :param compile_options: options of ``create``.
    :param python: interpreter that has the flow's imports.
    :param project_root: folder that the flow is started from.
    """
    from airflow_provider_metaflow import settings
    from metaflow_orchestration.compile.inputs.layout import own_import_paths
    from metaflow_orchestration.compile.options import CompileOptions

    top_level = tuple(options)
    return CompileOptions(
        top_level=top_level,
        name=dag_id if dag_id and "--production" not in top_level and "--branch" not in top_level else None,
        create=tuple(compile_options),
        python=python or settings.python(),
        project_root=None if project_root is None else str(project_root),
        import_paths=own_import_paths(),
        shared=True,
        on_worker=runs_a_task(),
    )
