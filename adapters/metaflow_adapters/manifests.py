"""From a flow file to its manifest, for the libraries of all adapters."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from metaflow_orchestration.compile.compiler import CompileOptions, load_manifest
from metaflow_orchestration.documents.manifest import SUFFIX, Manifest, read_manifest


def compile_manifest_of(
    flow: str | Path | Manifest,
    group: str,
    *,
    name: str | None = None,
    top_level: Sequence[str] = (),
    create: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    python: str | None = None,
    cache: str | Path | None = None,
) -> Manifest:
    """Return the compiled form of a flow.

    :param flow: a flow file, a manifest of it, or its path.
    :param group: command group of the orchestrator.
    :param name: name of the deployment.
    :param top_level: options before the subcommand.
    :param create: options of ``create``.
    :param environment: variables for Metaflow while it compiles.
    :param python: interpreter that has the flow's imports; this one, if left out.
    :param cache: folder for compiled manifests.
    """
    if isinstance(flow, Manifest):
        return flow
    options = CompileOptions(
        group=group,
        top_level=tuple(top_level),
        name=name,
        create=tuple(create),
        python=python or sys.executable,
        environment=tuple(sorted((environment or {}).items())),
    )
    return _manifest(Path(flow), options, cache)


def _manifest(path: Path, options: CompileOptions, cache: str | Path | None) -> Manifest:
    if path.name.endswith(SUFFIX):
        return read_manifest(path)
    home = Path(cache or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return load_manifest(path, options, home if cache else home / "airflow-provider-metaflow")
