"""Makes the code package of a flow, as Metaflow does, of the folder that the flow is started from. Imports Metaflow."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from metaflow_orchestration.compile.inputs.source_files import ENVIRONMENT_MARK


def make_package(obj: Any, root: Path) -> Any:
    """Return Metaflow's code package of a flow, without what lies in virtual environments.

    :param obj: state of Metaflow's command line.
    :param root: the folder to package.
    """
    from metaflow.package import MetaflowPackage
    from metaflow.packaging_sys.utils import walk

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

    return ProjectPackage(obj.flow, obj.environment, obj.echo, suffixes=obj.package_suffixes, flow_datastore=None)


def _is_in_environment(folder: str, root: str) -> bool:
    """Return whether a folder below the root is, or lies in, a virtual environment (PEP 405)."""
    while len(folder) > len(root):
        if os.path.exists(os.path.join(folder, ENVIRONMENT_MARK)):  # noqa: PTH110, PTH118  (thousands of files)
            return True
        folder = os.path.dirname(folder)  # noqa: PTH120
    return False
