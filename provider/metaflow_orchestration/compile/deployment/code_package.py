"""The code package of a flow: made as Metaflow does, of the folder that the flow is started from. Imports Metaflow."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from metaflow_orchestration.compile.inputs import recorder
from metaflow_orchestration.compile.inputs.layout import package_of
from metaflow_orchestration.compile.inputs.source_files import ENVIRONMENT_MARK
from metaflow_orchestration.documents.manifest import CodePackage
from metaflow_orchestration.exceptions import FlowCompileError

from .options import DeployOptions
from .reachable import check_reachable


def save_package(obj: Any, options: DeployOptions) -> CodePackage:
    """Make the code package of a flow, save it in the flow's datastore, and return where it is.

    :param obj: state of Metaflow's command line; it gets the package.
    :param options: options of ``create``.
    :raises FlowCompileError: if it cannot be saved, or the flow file is not in it.
    """
    flow_file = Path(sys.argv[0]).resolve()
    root = flow_file.parent if options.project_root is None else Path(options.project_root).resolve()
    obj.package = make_package(obj, root)
    try:
        if options.upload:
            check_reachable(obj.flow_datastore.TYPE, obj.flow.name)
            url, sha = obj.flow_datastore.save_data([obj.package.blob], len_hint=1)[0]
        else:
            url, sha = _future_location(obj)
    except OSError as error:
        raise FlowCompileError(
            f"the code package cannot be saved in {obj.flow_datastore.datastore_root} ({error.strerror}).",
            flow=obj.flow.name,
            hint="Check that the datastore exists and is writable, and that the disk is not full.",
        ) from error
    packaged = dict(obj.package.path_tuples())
    if not flow_file.is_file() or str(flow_file.relative_to(root)) not in packaged.values():
        raise FlowCompileError(
            f"its file {flow_file} is not in the code package any more.",
            flow=obj.flow.name,
            hint="Does the import of the flow move or delete files?",
        )
    recorder.note_packaged(packaged)
    return CodePackage(
        url=str(Path(url).resolve()) if obj.flow_datastore.TYPE == "local" else url,
        sha=sha,
        metadata=obj.package.package_metadata,
        datastore=obj.flow_datastore.TYPE,
        flow_file=str(flow_file.relative_to(root)),
        flow_dir=str(root),
        package=package_of(flow_file, root),
    )


def _future_location(obj: Any) -> tuple[str, str]:
    """Return where the code package would be saved (``metaflow.datastore.content_addressed_store``)."""
    from hashlib import sha1

    sha = sha1(obj.package.blob, usedforsecurity=False).hexdigest()
    store = obj.flow_datastore.ca_store
    storage = obj.flow_datastore._storage_impl
    return storage.full_uri(storage.path_join(store._prefix, sha[:2], sha)), sha


def make_package(obj: Any, root: Path) -> Any:
    """Return Metaflow's code package of a flow, without what lies in virtual environments.

    :param obj: state of Metaflow's command line.
    :param root: the folder to package.
    """
    from metaflow.package import MetaflowPackage
    from metaflow.packaging_sys.utils import walk

    from .archive import PackageArchive

    is_project = root != Path(sys.argv[0]).resolve().parent

    class ProjectPackage(MetaflowPackage):  # type: ignore[misc]
        """The package of one folder."""

        def _user_code_tuples(self) -> Iterator[tuple[str, str]]:
            in_environment = cache(lambda folder: _is_in_environment(folder, str(root)))
            for path, name in self._project_tuples() if is_project else super()._user_code_tuples():
                if not in_environment(os.path.dirname(path)):  # noqa: PTH120  (thousands of files)
                    yield path, name

        def _project_tuples(self) -> Iterator[tuple[str, str]]:
            self._user_flow_dir = f"{root}/"
            walked = walk(f"{root}/", file_filter=self._user_code_filter, exclude_tl_dirs=self._exclude_tl_dirs)
            paths = {**self._user_content_from_addl, **{name: path for path, name in walked}}
            yield from ((path, name) for name, path in paths.items())

    return ProjectPackage(
        obj.flow,
        obj.environment,
        obj.echo,
        suffixes=obj.package_suffixes,
        flow_datastore=None,
        backend=PackageArchive,
    )


def _is_in_environment(folder: str, root: str) -> bool:
    """Return whether a folder below the root is, or lies in, a virtual environment (PEP 405)."""
    while len(folder) > len(root):
        if os.path.exists(os.path.join(folder, ENVIRONMENT_MARK)):  # noqa: PTH110, PTH118  (thousands of files)
            return True
        folder = os.path.dirname(folder)  # noqa: PTH120
    return False
