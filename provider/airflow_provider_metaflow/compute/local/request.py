"""What a runner process is asked (``task_runner.py`` of the Metaflow extension reads it, as one JSON object a line)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from metaflow_orchestration.compile.inputs.layout import own_import_paths
from metaflow_orchestration.documents.manifest import CodePackage, Manifest
from metaflow_orchestration.documents.task import InitRequest


class FlowOfRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What every request says of the flow and of the process that it is for.

    :param flow_name: name of the flow.
    :param flow_file: its file.
    :param datastore: kind of the datastore.
    :param datastore_root: its root.
    :param cwd: working directory: the unpacked code package.
    :param package: package of the flow file, as ``python -m`` knows it; empty for a script.
    :param import_paths: folders that the orchestrator lets its own code import.
    :param env: environment of the task.
    """

    flow_name: str
    flow_file: str
    datastore: str
    datastore_root: str
    cwd: str
    package: str
    import_paths: tuple[str, ...]
    env: dict[str, str]

    @classmethod
    def of(cls, manifest: Manifest, code: CodePackage, root: Path, environment: Mapping[str, str]) -> FlowOfRequest:
        """Return it for a compiled flow.

        :param manifest: the compiled flow.
        :param code: the code package that the run uses.
        :param root: unpacked code package.
        :param environment: environment of the task.
        """
        return cls(
            flow_name=manifest.graph.name,
            flow_file=str(root / code.flow_file),
            datastore=code.datastore,
            datastore_root=manifest.command.datastore_root,
            cwd=str(root),
            package=code.package,
            import_paths=own_import_paths(),
            env=dict(environment),
        )


class Request(msgspec.Struct, frozen=True, kw_only=True, tag_field="op"):
    """What is asked of a flow; each kind is a subclass, whose tag the process knows."""


class RunRequest(Request, frozen=True, kw_only=True, tag="run"):
    """Run one task.

    :param step: the step.
    :param run_id: Metaflow run id.
    :param task_id: Metaflow task id.
    :param attempt: 0-based attempt.
    :param arguments: arguments of Metaflow's command line.
    :param time_limit: after how many seconds it is killed.
    :param init: for the start step: what is registered first.
    """

    step: str
    run_id: str
    task_id: str
    attempt: int
    arguments: tuple[str, ...]
    time_limit: int | None
    init: InitRequest | msgspec.UnsetType = msgspec.UNSET


class ProbeRequest(Request, frozen=True, kw_only=True, tag="probe"):
    """Tell which tasks have finished.

    :param step: the step.
    :param run_id: Metaflow run id.
    :param task_ids: the tasks.
    :param min_attempt: results of earlier attempts do not count.
    :param stop_at_missing: end the answer at the first task that has not finished.
    """

    step: str
    run_id: str
    task_ids: tuple[str, ...]
    min_attempt: int
    stop_at_missing: bool


class FindTasksRequest(Request, frozen=True, kw_only=True, tag="find_tasks"):
    """Find the finished tasks of a step of a run that any deployer may have made.

    :param step: the step.
    :param run_id: Metaflow run id.
    :param resumed: Metaflow run id of the run that resumes it.
    :param depth: number of foreaches around the step.
    :param gang: whether it is a ``@parallel`` step.
    """

    step: str
    run_id: str
    resumed: str
    depth: int
    gang: bool


class SaveRequest(Request, frozen=True, kw_only=True, tag="save"):
    """Put bytes into the datastore.

    :param data: their base64.
    """

    data: str


class HasRunRequest(Request, frozen=True, kw_only=True, tag="has_run"):
    """Tell whether the task with the parameters of a run has finished.

    :param step: its step.
    :param run_id: Metaflow run id.
    :param task_id: its task id.
    """

    step: str
    run_id: str
    task_id: str


class LoadRecordRequest(Request, frozen=True, kw_only=True, tag="load_record"):
    """Read a record of a DAG run id.

    :param name: name of the record.
    """

    name: str


class SaveRecordRequest(Request, frozen=True, kw_only=True, tag="save_record"):
    """Replace a record of a DAG run id.

    :param name: name of the record.
    :param record: JSON types; only who keeps it knows more.
    """

    name: str
    record: Any


def encoded(flow: FlowOfRequest, request: Request) -> bytes:
    """Return a request as the process reads it.

    :param flow: what the request is about.
    :param request: what is asked.
    """
    # Not by msgspec, which refuses what `os.environ` makes of bytes that are no UTF-8.
    return json.dumps({**msgspec.to_builtins(flow), **msgspec.to_builtins(request)}).encode() + b"\n"
