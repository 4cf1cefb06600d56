"""Options of ``create`` that end up in the manifest. Imports Metaflow."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from metaflow_orchestration.documents.manifest import Notifications
from metaflow_orchestration.exceptions import InvalidOptionError


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployOptions:
    """Options of ``create`` that end up in the manifest; see :class:`~.manifest.Deployment`."""

    tags: tuple[str, ...] = ()
    namespace: str | None = None
    max_workers: int | None = None
    workflow_timeout: int | None = None
    worker_pool: str | None = None
    is_paused_upon_creation: bool | None = None
    emit_events: bool = True
    emit_step_events: bool = False
    notifications: Notifications | None = None
    upload: bool = True
    """Whether the code package is saved; else its place is only computed, and nobody but this machine is asked."""
    project_root: str | None = None
    """The folder that the flow is started from and that is packaged; default: that of the flow file."""


def check_options(flow_name: str, options: DeployOptions) -> None:
    """Check the values of ``create`` options.

    :param flow_name: flow to name in an error.
    :param options: the options.
    :raises InvalidOptionError: naming the option.
    """
    from metaflow.exception import MetaflowException
    from metaflow.tagging_util import validate_tags

    if options.tags:
        try:
            validate_tags(options.tags)
        except MetaflowException as error:
            raise InvalidOptionError(f"--tag: {error}", flow=flow_name) from None
    check_project_root(options.project_root, flow_name)
    if options.emit_step_events and not options.emit_events:
        raise InvalidOptionError(
            "--emit-step-events contradicts --no-auto-emit-events.", flow=flow_name, hint="Remove one of them."
        )
    for option in ("max_workers", "workflow_timeout"):
        value = getattr(options, option)
        if value is not None and value < 1:
            raise InvalidOptionError(f"--{option.replace('_', '-')} is {value}; it must be at least 1.", flow=flow_name)


def check_project_root(root: str | None, flow_name: str) -> None:
    """Check the folder that a flow is started from.

    :param root: ``--project-root``.
    :param flow_name: flow to name in an error.
    :raises InvalidOptionError: if it is no folder, or the flow file lies elsewhere.
    """
    if root is None:
        return
    if not Path(root).is_dir():
        raise InvalidOptionError(f"--project-root: there is no folder {root}.", flow=flow_name)
    flow_file = Path(sys.argv[0]).resolve()
    if not flow_file.is_relative_to(Path(root).resolve()):
        raise InvalidOptionError(
            f"--project-root: the flow file {flow_file} does not lie below {root}.",
            flow=flow_name,
            hint="Name the folder that the flow is started from, e.g. the root of its repository.",
        )
