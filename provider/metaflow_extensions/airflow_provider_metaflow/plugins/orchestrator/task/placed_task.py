"""Completes the document of a container that was given only its place in the graph: the index path.

Orchestrators that hand on no lists of task ids (Argo Workflows, Step Functions) leave the rest to this module: which
attempt it is, and which tasks the inputs come from. Both stand in the datastore.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from placed_origin import Origin, leave_parameters  # type: ignore[import-not-found]
from placed_parameters import given_parameters, init_command, received_events  # type: ignore[import-not-found]
from resumed_run import MAX_ATTEMPTS  # type: ignore[import-not-found]
from task_documents import load_json, save_json  # type: ignore[import-not-found]
from task_place import (  # type: ignore[import-not-found]
    ADDRESS_VARIABLE,
    GANG_VARIABLE,
    NODES_VARIABLE,
    PARAMETERS,
    RUN_VARIABLE,
    TRIGGERS_VARIABLE,
    TRY_VARIABLE,
    Finder,
    Place,
    task_id,
)

if TYPE_CHECKING:
    from .task_documents import GangRecord, Outcome, StepDocument


def complete(document: StepDocument, results: Any) -> StepDocument:
    """Return a document as ``container_task`` takes it; with ``finished``, if an earlier try has done the work.

    :param document: what ``adapters`` have written for the step.
    :param results: the module ``task_results``, with Metaflow imported.
    """
    place = Place.read(os.environ)
    document["run_id"] = place.run_id
    step = document["step"]
    own = task_id(step, place.path, place.iteration)
    datastore = results.flow_datastore(document)

    def outcome(name: str, task: str, run: str = place.run_id) -> Outcome | None:
        found: Outcome | None = results.stored_outcome(datastore, run, name, task, 0)
        return found

    attempt = _begin(document, datastore, place, lambda: outcome(step, own))
    if document.get("finished"):
        return document
    _check_attempt(attempt, step, own)
    given, origin = given_parameters(document), Origin.read(os.environ)
    if document["sources"] is None:
        document["init"] = init_command(document, place.run_id, given)
    leave_parameters(document, place.run_id, origin)
    if document.get("triggers"):
        document["env"][TRIGGERS_VARIABLE] = json.dumps(received_events(document["triggers"], given))
    inputs = _inputs(document, place, outcome)
    document["arguments"] = _arguments(document, place, attempt, origin, inputs)
    document["clones"] = origin.source(document, place, datastore, outcome) if origin else []
    options = _own_options(document, place.path)
    document["attempt"] = attempt
    document["tasks"] = [{"task_id": own, "arguments": ["--task-id=%s" % own, *options]}]
    document["env"].update(
        METAFLOW_RUN_ID=place.run_id, METAFLOW_STEP_NAME=step, METAFLOW_RETRY_COUNT=str(attempt), METAFLOW_TASK_ID=own
    )
    os.environ.update(document["env"])
    return document


def _begin(document: StepDocument, datastore: Any, place: Place, find_outcome: Callable[[], Outcome | None]) -> int:
    """Return the attempt; for a task that an earlier try has finished, ``finished`` of the document is its outcome."""
    step = document["step"]

    def count() -> int:
        return next_attempt(datastore, place.run_id, step, task_id(step, place.path, place.iteration))

    nodes = int(os.environ.get(NODES_VARIABLE) or 0)
    if nodes > 1:
        return meet(document, datastore, count, nodes)
    attempt = count()
    # What a container has finished that was lost afterwards is not done again.
    document["finished"] = find_outcome() if attempt else None
    if nodes and not document["finished"]:
        # A gang of one has nobody to find; Metaflow runs it as on one machine.
        document["env"].pop("METAFLOW_RUNTIME_ENVIRONMENT", None)
        os.environ.pop("METAFLOW_RUNTIME_ENVIRONMENT", None)
    return attempt


def meet(document: StepDocument, datastore: Any, count: Callable[[], int], nodes: int) -> int:
    """Bring the nodes of a gang together: the control node leaves its address and attempt where the others look.

    Only it counts the attempts: the others would count the one that it has just started.

    :param document: document of the step, which learns the number of nodes and the address.
    :param datastore: datastore of the flow.
    :param count: function that returns the number of the attempt.
    :param nodes: number of nodes.
    :return: the attempt.
    """
    document["gang"] = nodes
    storage = datastore._storage_impl
    # In a folder of the flow, so that a job needs no rights on those of others.
    path = storage.path_join("mf.gangs", datastore.flow_name, os.environ[RUN_VARIABLE], os.environ[GANG_VARIABLE])
    if int(os.environ.get("JOB_COMPLETION_INDEX") or os.environ.get("AWS_BATCH_JOB_NODE_INDEX") or 0) == 0:
        # AWS Batch itself tells the nodes where the main one is.
        record: GangRecord = {"attempt": count(), "address": os.environ.get(ADDRESS_VARIABLE)}
        save_json(storage, path, record)
    else:
        record = await_record(storage, path)
    if record["address"]:
        os.environ["MF_MASTER_ADDR"] = document["env"]["MF_MASTER_ADDR"] = record["address"]
    return int(record["attempt"])


def await_record(storage: Any, path: str, seconds: float = 600) -> GangRecord:
    """Return what the control node of a gang leaves; ends the process if it leaves nothing.

    :param storage: storage of the flow's datastore.
    :param path: where it leaves it.
    :param seconds: how long to wait.
    """
    end = time.monotonic() + seconds
    while not storage.is_file([path])[0]:
        if time.monotonic() > end:
            sys.exit("The control node of the gang has not started in %d s." % seconds)
        time.sleep(1)
    record: GangRecord = load_json(storage, path)
    return record


def _arguments(
    document: StepDocument, place: Place, attempt: int, origin: Origin | None, inputs: list[str]
) -> list[str]:
    """Return the arguments of Metaflow's ``step`` that all tasks of the step share."""
    tries = int(os.environ.get(TRY_VARIABLE) or 0)
    if document.get("counts_submissions"):
        # The orchestrator's count holds submissions that were refused, too.
        tries = min(tries, attempt)
    left = max(document["retries"] - tries, 0)
    return [
        *document["top_level"],
        *document["with"],
        "step",
        document["step"],
        "--run-id=%s" % place.run_id,
        "--retry-count=%d" % attempt,
        "--max-user-code-retries=%d" % max(attempt + left - document["error_retries"], -1),
        # For current.origin_run_id and the client's origin_pathspec.
        *(["--clone-run-id=%s" % origin.run_id] if origin else []),
        *document["step_options"],
        "--input-paths=%s" % ",".join("%s/%s" % (place.run_id, one) for one in inputs),
    ]


def _inputs(document: StepDocument, place: Place, outcome: Callable[[str, str], Outcome | None]) -> list[str]:
    if document["sources"] is None:
        return ["/".join(PARAMETERS)]
    step = document["step"]
    if place.iteration:
        return ["%s/%s" % (step, task_id(step, place.path, place.iteration - 1))]
    found: list[str] = Finder(outcome, document.get("steps") or {}).inputs(step, document["sources"], place.path)
    return found


def _check_attempt(attempt: int, step: str, own: str) -> None:
    if attempt >= MAX_ATTEMPTS:
        sys.exit(
            "Metaflow allows %d attempts of a task, and %s/%s has had them; resume the run in a new one."
            % (MAX_ATTEMPTS, step, own)
        )


def _own_options(document: StepDocument, path: tuple[int, ...]) -> list[str]:
    if document["clones"]:
        return ["--clone-only=%s" % document["clones"][0]]
    if document.get("is_gang"):
        return ["--split-index=0", "--ubf-context=ubf_control"]
    return ["--split-index=%d" % path[-1]] if path else []


def next_attempt(datastore: Any, run_id: str, step: str, task: str) -> int:
    """Return the number of the attempt to make: that after the last one that was started.

    The orchestrator's own count starts again when a user retries a workflow, and counts pods that never came to
    Metaflow; readers of a task want attempts without gaps, and the highest wins.
    """
    for attempt in range(MAX_ATTEMPTS):
        found = datastore.get_task_datastore(run_id, step, task, attempt=attempt, mode="w")
        if not found.has_metadata(found.METADATA_ATTEMPT_SUFFIX):
            return attempt
    return int(MAX_ATTEMPTS)


def write_outputs(outcome: Outcome, document: StepDocument) -> None:
    """Write what the orchestrator must learn of a finished task.

    :param outcome: the outcome document.
    :param document: the completed document of the task; ``outputs`` is the path of the file for each fact: ``splits``,
        ``next``, ``nodes``, ``pathspec``.
    """
    facts = {
        "splits": outcome.get("num_splits"),
        "nodes": outcome.get("num_parallel"),
        "next": next(iter(outcome.get("next") or ()), None),
        "pathspec": "%s/%s" % (document.get("flow_name"), document.get("run_id")),
    }
    for name, path in document["outputs"].items():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(str(facts[name]))
