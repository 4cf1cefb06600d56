"""How a flow file is compiled."""

from __future__ import annotations

import msgspec


class CompileOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a flow file is compiled.

    :param top_level: options before the subcommand, e.g. ``("--with", "retry", "--production")``.
    :param name: name of the deployment.
    :param create: options of ``create``, e.g. ``("--tag", "nightly")``.
    :param python: interpreter that has the flow's imports.
    :param group: command group of the orchestrator.
    :param environment: further variables for Metaflow.
    :param project_root: folder that the flow is started from; default: its own, or the one above its package if it has
        relative imports.
    :param import_paths: folders that it can import from, too; they count by what is imported from them.
    :param shared: whether machines reuse each other's results by way of the datastore; see :mod:`~.shared_manifests`.
    :param on_worker: whether a task runs here, which uses what the DAG processor has compiled, whatever differs here.
    """

    top_level: tuple[str, ...] = ()
    name: str | None = None
    create: tuple[str, ...] = ()
    python: str = "python"
    group: str = "airflow"
    environment: tuple[tuple[str, str], ...] = ()
    project_root: str | None = None
    import_paths: tuple[str, ...] = ()
    shared: bool = False
    on_worker: bool = False
