"""Environments of local tasks: the worker's, that of the flow, and that of one task."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from metaflow_orchestration.documents.container_settings import remote_settings
from metaflow_orchestration.documents.manifest import CodePackage, Manifest
from metaflow_orchestration.run.commands import StepCall, task_variables

from .runner_process import step_environment


def worker_environment(manifest: Manifest) -> dict[str, str]:
    """Return the worker's environment, over what the deploying machine knew of the datastore.

    :param manifest: the compiled flow.
    """
    return {**remote_settings(manifest).environment, **os.environ}


def shared_environment(manifest: Manifest, root: Path) -> dict[str, str]:
    """Return what all tasks of a flow have in common.

    :param manifest: the compiled flow.
    :param root: unpacked code package.
    """
    return step_environment({**worker_environment(manifest), **manifest.command.environment}, root)


def task_environment(
    manifest: Manifest,
    code: CodePackage,
    call: StepCall,
    *,
    root: Path,
    python: str,
    variables: Mapping[str, str],
    own: Mapping[str, str],
) -> dict[str, str]:
    """Return the environment of a task: the worker's, the user's, ours, each over the one before.

    :param manifest: the compiled flow.
    :param code: the code package that the run uses.
    :param call: the task.
    :param root: unpacked code package.
    :param python: interpreter.
    :param variables: variables of the orchestrator.
    :param own: variables of this package, which are over all others.
    """
    path = os.environ.get("PATH", os.defpath)
    if call.step.gang:
        # Metaflow starts the other nodes of a local gang as `python`.
        path = f"{Path(python).parent}{os.pathsep}{path}"
    return step_environment(
        {
            **worker_environment(manifest),
            "PATH": path,
            **variables,
            **dict(call.step.environment),
            **manifest.command.environment,
            **task_variables(code, call),
            **own,
        },
        root,
    )
