"""``check_flow``: from a flow file to one report for several orchestrators.

Each orchestrator is asked by its own command group in a process of its own, so that a flow is compiled as ``create``
compiles it, by the interpreter that has the flow's imports.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from metaflow_orchestration.compile.inputs.layout import package_of, project_root_of
from metaflow_orchestration.compile.processes.environment import child_environment
from metaflow_orchestration.compile.processes.messages import complaint, step_named
from metaflow_orchestration.compile.processes.supervised import run_supervised
from metaflow_orchestration.exceptions import FlowCompileError, InvalidOptionError

from .counts import DEFAULT_WIDTH
from .report import Report, merged, read_report
from .target import refused_report

GROUPS = {"airflow": "airflow", "argo": "argo", "step-functions": "sfn"}
"""Command groups by the name of the orchestrator."""

_TIMEOUT_SECONDS = 600


def check_flow(  # noqa: PLR0913  (keyword-only; the user's interface)
    flow: str | Path,
    targets: Sequence[str] = tuple(GROUPS),
    *,
    width: int = DEFAULT_WIDTH,
    name: str | None = None,
    top_level: Sequence[str] = (),
    create: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    python: str | None = None,
    project_root: str | Path | None = None,
) -> Report:
    """Return what orchestrators would do with a flow. Nothing is deployed, uploaded, or asked of a service.

    ```python
    from metaflow_orchestration.check import check_flow

    report = check_flow("flows/training.py", ["airflow", "argo"], width=500)
    ```

    New in version 0.1.0.

    :param flow: the flow file.
    :param targets: orchestrators: ``airflow``, ``argo``, ``step-functions``.
    :param width: number of splits of each foreach, for sizes and costs.
    :param name: name of the deployment.
    :param top_level: options before the subcommand, e.g. ``["--with", "retry"]``.
    :param create: options of ``create`` that all of these orchestrators know, e.g. ``["--tag", "nightly"]``.
    :param environment: further variables for Metaflow, e.g. ``METAFLOW_DATASTORE_SYSROOT_S3``.
    :param python: interpreter that has the flow's imports; this one if left out.
    :param project_root: folder that the flow is started from; default: its own, or the one above its package.
    :raises FlowCompileError: if the file is missing, or the interpreter cannot be started.
    :raises InvalidOptionError: if an orchestrator is not known.
    """
    path = Path(flow).resolve()
    if not path.is_file():
        raise FlowCompileError(f"flow file {flow} does not exist.")
    unknown = [one for one in targets if one not in GROUPS]
    if unknown or not targets:
        known = ", ".join(GROUPS)
        raise InvalidOptionError(f"there is no target {unknown[0] if unknown else ''!r}.", hint=f"Known are: {known}.")
    root = project_root_of(path, str(project_root) if project_root else None) or path.parent
    package = package_of(path, root)
    program = ["-m", f"{package}.{path.stem}"] if package else [os.path.relpath(path, root)]
    variables = {**child_environment(), **(environment or {})}
    reports = []
    for target in dict.fromkeys(targets):
        group = [GROUPS[target], *(["--name", name] if name else [])]
        verb = ["check", "--json", "--width", str(width), *create]
        verb += ["--project-root", str(root)] if root != path.parent else []
        command = [python or sys.executable, *program, "--no-pylint", *top_level, *group, *verb]
        reports.append(_ask(path, root, target, width, command, variables))
    return merged(_flow_name(path, reports), width, reports)


def _ask(
    path: Path, root: Path, target: str, width: int, command: Sequence[str], environment: Mapping[str, str]
) -> Report:
    try:
        result = run_supervised(command, folder=root, environment=environment, seconds=_TIMEOUT_SECONDS)
    except OSError as error:
        raise FlowCompileError(
            f"the interpreter {command[0]!r} cannot be started ({error.strerror}).", flow=path.name
        ) from None
    except subprocess.TimeoutExpired:
        raise FlowCompileError(f"checking it took over {_TIMEOUT_SECONDS} s.", flow=path.name) from None
    start = result.stdout.find("{")
    try:
        return read_report(result.stdout[max(start, 0) :])
    except ValueError:
        # Metaflow, the name of the deployment or a missing package has ended the command before.
        text = complaint(result.stdout, result.stderr) or f"the command ended with status {result.status}."
        refusal = FlowCompileError(text, flow=path.name, step=step_named(text), hint=f"See: {' '.join(command[1:])}")
        return refused_report(path.name, target, width, refusal)


def _flow_name(path: Path, reports: Sequence[Report]) -> str:
    return next((one.flow for one in reports if one.flow != path.name), path.name)
