"""What every request to a runner process says of its flow (``task_runner.py`` of the Metaflow extension reads it)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metaflow_orchestration.compile.inputs.layout import own_import_paths
from metaflow_orchestration.documents.manifest import CodePackage, Manifest


def request_base(manifest: Manifest, code: CodePackage, root: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the part of a request that does not depend on what is asked.

    :param manifest: the compiled flow.
    :param code: the code package that the run uses.
    :param root: unpacked code package.
    :param environment: environment of the task.
    """
    return {
        "flow_name": manifest.graph.name,
        "flow_file": str(root / code.flow_file),
        "cwd": str(root),
        "package": code.package,
        "import_paths": list(own_import_paths()),
        "env": dict(environment),
        "datastore": code.datastore,
        "datastore_root": manifest.command.datastore_root,
    }
