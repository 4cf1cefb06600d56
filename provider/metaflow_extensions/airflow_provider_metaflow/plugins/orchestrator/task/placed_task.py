"""Completes the document of a container that was told only its place in the graph: the index path.

Orchestrators that hand on no lists of task ids (Argo Workflows, Step Functions) leave the rest to this module: which
attempt it is, and which tasks the inputs come from. Both stand in the datastore.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from placed_gang import meet  # type: ignore[import-not-found]
from placed_origin import Origin, leave_parameters  # type: ignore[import-not-found]
from placed_parameters import given_parameters, init_command, received_events  # type: ignore[import-not-found]
from task_place import (  # type: ignore[import-not-found]
    MAX_ATTEMPTS,
    NODES_VARIABLE,
    PARAMETERS,
    TRY_VARIABLE,
    Finder,
    Place,
    task_id,
)


def complete(document: dict[str, Any], results: Any) -> dict[str, Any]:
    """Return a document as ``container_task`` takes it; with ``finished``, if an earlier try has done the work.

    :param document: what ``adapters`` have written for the step.
    :param results: the module ``task_results``, with Metaflow imported.
    """
    place = Place.read(os.environ)
    document["run_id"] = place.run_id
    step = document["step"]
    own = task_id(step, place.path, place.iteration)
    datastore = results.flow_datastore(document)

    def outcome(name: str, task: str, run: str = place.run_id) -> Any:
        return results.stored_outcome(datastore, run, name, task, 0)

    attempt = _begin(document, datastore, place, lambda: outcome(step, own))
    if document.get("finished"):
        return document
    _check_attempt(attempt, step, own)
    given, origin = given_parameters(document), Origin.read(os.environ)
    if document["sources"] is None:
        document["init"] = init_command(document, place.run_id, given)
    leave_parameters(document, place.run_id, origin)
    if document.get("triggers"):
        document["env"]["METAFLOW_ORCHESTRATOR_TRIGGERS"] = json.dumps(received_events(document["triggers"], given))
    inputs = _inputs(document, place, outcome)
    document["arguments"] = _arguments(document, place, attempt, origin, inputs)
    document["clones"] = origin.source(document, place, datastore, outcome) if origin else []
    options = _own_options(document, place.path)
    document.update(attempt=attempt, tasks=[{"task_id": own, "arguments": ["--task-id=%s" % own, *options]}])
    document["env"].update(
        METAFLOW_RUN_ID=place.run_id, METAFLOW_STEP_NAME=step, METAFLOW_RETRY_COUNT=str(attempt), METAFLOW_TASK_ID=own
    )
    os.environ.update(document["env"])
    return document


def _begin(document: dict[str, Any], datastore: Any, place: Place, find_outcome: Callable[[], Any]) -> int:
    """Return the attempt; for a task that an earlier try has finished, ``finished`` of the document is its outcome."""
    step = document["step"]

    def count() -> int:
        return next_attempt(datastore, place.run_id, step, task_id(step, place.path, place.iteration))

    nodes = int(os.environ.get(NODES_VARIABLE) or 0)
    if nodes > 1:
        return int(meet(document, datastore, count, nodes))
    attempt = count()
    # What a container has finished that was lost afterwards is not done again.
    document["finished"] = find_outcome() if attempt else None
    if nodes and not document["finished"]:
        # A gang of one has nobody to find; Metaflow runs it as on one machine.
        document["env"].pop("METAFLOW_RUNTIME_ENVIRONMENT", None)
        os.environ.pop("METAFLOW_RUNTIME_ENVIRONMENT", None)
    return attempt


def _arguments(
    document: dict[str, Any], place: Place, attempt: int, origin: Origin | None, inputs: list[str]
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


def _inputs(document: dict[str, Any], place: Place, outcome: Any) -> list[str]:
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


def _own_options(document: dict[str, Any], path: tuple[int, ...]) -> list[str]:
    if document["clones"]:
        return ["--clone-only=%s" % document["clones"][0]]
    if document.get("is_gang"):
        return ["--split-index=0", "--ubf-context=ubf_control"]
    return ["--split-index=%d" % path[-1]] if path else []


def next_attempt(datastore: Any, run_id: str, step: str, task: str) -> int:
    """Return the number of the attempt to make: that after the last one that was started.

    The orchestrator's own count starts anew when a user retries a workflow, and counts pods that never came to
    Metaflow; readers of a task want attempts without gaps, and the highest wins.
    """
    for attempt in range(MAX_ATTEMPTS):
        found = datastore.get_task_datastore(run_id, step, task, attempt=attempt, mode="w")
        if not found.has_metadata(found.METADATA_ATTEMPT_SUFFIX):
            return attempt
    return int(MAX_ATTEMPTS)


def write_outputs(outcome: dict[str, Any], document: dict[str, Any]) -> None:
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
