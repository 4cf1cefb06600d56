"""What containers of Metaflow tasks are told, and tasks of :class:`MemoryMetaflow` in their place."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any

from airflow.sdk import DAG

from metaflow_orchestration.containers.command import TASK_VARIABLE
from metaflow_orchestration.exceptions import FinalFailureError, StepFailedError
from metaflow_orchestration.graph.identity import position_in_step
from metaflow_orchestration.run.commands import StepCall
from tests.support.task_runs import MemoryMetaflow, step_of


def told(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the document that a container with these variables runs by."""
    found: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(environment[TASK_VARIABLE])))
    return found


def inputs_of(document: Mapping[str, Any], task: int = 0) -> list[str]:
    """Return `step/position` of what a task takes."""
    arguments = [*document["arguments"], *document["tasks"][task]["arguments"]]
    (paths,) = [one for one in arguments if one.startswith("--input-paths=")]
    given = [path.split("/") for path in paths.removeprefix("--input-paths=").split(",")]
    return [f"{step}/{position_in_step(step, name)}" for _, step, name in given]


def work(metaflow: MemoryMetaflow, dag: DAG, document: Mapping[str, Any], task: int = 0) -> tuple[int, str]:
    """Run a task of a document; return exit code and last message of its container."""
    name = document["tasks"][task]["task_id"]
    call = StepCall(
        step=step_of(dag, document["step"]),
        run_id=document["run_id"],
        task_id=name,
        attempt=document["attempt"],
        max_user_retries=0,
        inputs=tuple(inputs_of(document, task)),
    )
    metaflow.calls.append(call)
    try:
        outcome = metaflow.outcome(call, metaflow.document(call))
    except StepFailedError as error:
        return 202 if isinstance(error, FinalFailureError) else 1, json.dumps({"last_lines": [error.message]})
    return 0, json.dumps(metaflow.finish(call, outcome or {}))
