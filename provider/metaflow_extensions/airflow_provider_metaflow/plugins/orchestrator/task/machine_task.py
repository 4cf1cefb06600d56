"""What a job of a state machine of AWS Step Functions knows of its task, and what it reports to the state machine.

The job is given one word, its place: step, run id and index path. All else stands in the flow's document, in the
variables that AWS Batch sets, and in small objects of the datastore:

``<folder>/<run>/<path>/<step>``
    what the state machine reads: the number of splits or nodes, or the choice of a switch;
``<folder>/<run>/<path>/<step>.final``
    a task that must not be tried again has failed;
``<folder>/<run>/record``
    what all tasks of a run must know of its input: the run that it resumes, the events that started it, and whether
    its parameters were changed since;
``<folder>/<run>/input``
    an input that is too long for a job's variables; the state machine writes it.
"""

from __future__ import annotations

import datetime
import json
import os
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import task_place as place  # type: ignore[import-not-found]
from task_documents import NO_RETRY, load_json, save_json  # type: ignore[import-not-found]

if TYPE_CHECKING:
    from .task_documents import EventMapping, MachineDocument, MachineStep, Outcome, RunRecord, TriggerFacts

AwsEvent = Mapping[str, Any]
"""An event of Amazon EventBridge, with what its sender has put into ``detail``."""

PLACE_VARIABLE = "METAFLOW_PLACE"
"""Environment variable with step, run id, index path, and the try if there may be several, e.g.
``train/sfn-1f2e/t-3-0-/1``."""

INPUT_VARIABLE = "METAFLOW_INPUT"

MAX_SPLITS = 10_000
"""Children of an array job (AWS Batch, service quotas)."""

_KNOWN_INPUT = {"Parameters", "Origin", "Events", "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID"}
"""The last is by what the console shows which execution has started another (Step Functions, nested workflows)."""


def choose(document: MachineDocument) -> MachineStep:
    """Return the document of this job's step, and set the variables that ``placed_task`` reads.

    :param document: what ``adapters`` have written for the whole flow.
    """
    step, run, path, *tries = os.environ[PLACE_VARIABLE].split("/")
    shared = {name: value for name, value in document.items() if name != "each"}
    found = cast("MachineStep", {**shared, **document["each"][step]})
    index = os.environ.get("AWS_BATCH_JOB_ARRAY_INDEX")
    indexes = [one for one in path.split("-")[1:] if one] + ([index] if index else [])
    found["at"] = "/".join([found["folder"], run, path + ("%s-" % index if index else "")])
    number = _tries(index, tries)
    os.environ.update({place.RUN_VARIABLE: run, place.PLACE_VARIABLE: "-".join(indexes), place.TRY_VARIABLE: number})
    if found.get("is_gang"):
        os.environ[place.NODES_VARIABLE] = os.environ["AWS_BATCH_JOB_NUM_NODES"]
        # Each attempt is a job of its own.
        os.environ[place.GANG_VARIABLE] = os.environ["AWS_BATCH_JOB_ID"].split("#")[0]
    links = {
        "aws-step-functions-execution": run.partition("-")[2],
        "aws-step-functions-state-machine": found["deployment"],
        "aws-batch-job-id": os.environ.get("AWS_BATCH_JOB_ID", ""),
    }
    found["env"] = {**found["env"], place.LINKS_VARIABLE: json.dumps(links)}
    if index and int(number) and found.get("delay"):
        # AWS Batch tries a child of an array again at once.
        time.sleep(found["delay"])
    return found


def _tries(index: str | None, retries: list[str]) -> str:
    if index:
        return str(int(os.environ.get("AWS_BATCH_JOB_ATTEMPT", "1")) - 1)
    return retries[0] if retries else "0"


def arrive(document: MachineStep, results: Any) -> None:
    """Read what the run's input and earlier jobs say of this task; before ``placed_task.complete``.

    :param document: the document of the step.
    :param results: the module ``task_results``, with Metaflow imported.
    """
    storage = results.flow_datastore(document)._storage_impl
    tries = int(os.environ[place.TRY_VARIABLE])
    if tries and load_json(storage, "%s/%s.final" % (document["at"], document["step"])) is not None:
        print("An earlier try has said that another is of no use.", file=sys.stderr)
        sys.exit(NO_RETRY)
    folder = "%s/%s" % (document["folder"], os.environ[place.RUN_VARIABLE])
    if document["sources"] is None:
        record = _start(document, storage, folder)
    else:
        found: RunRecord | None = load_json(storage, folder + "/record")
        record = found or {}
    origin = record.get("origin")
    if origin:
        os.environ[place.ORIGIN_VARIABLE] = origin
    if record.get("changed"):
        os.environ[place.CHANGED_VARIABLE] = "1"
    if record.get("events"):
        document["env"][place.TRIGGERS_VARIABLE] = json.dumps(record["events"])
    if document.get("is_loop"):
        _continue_loop(document, storage)


def _start(document: MachineStep, storage: Any, folder: str) -> RunRecord:
    """Read the input of the run, and keep what the other tasks must know of it."""
    text = os.environ.pop(INPUT_VARIABLE, "{}")
    given = load_json(storage, folder + "/input") if text.startswith("@") else json.loads(text)
    values, record = read_input(given or {}, document)
    values = {**document["defaults"], **values}
    # Not by a variable, whose length Linux limits.
    document["given"] = values
    if any(record.values()):
        save_json(storage, folder + "/record", record)
    return record


def read_input(given: Any, document: MachineStep) -> tuple[dict[str, str], RunRecord]:
    """Return the parameters of a run as text by name, and what all its tasks must know.

    :param given: input of the execution: an object with ``Parameters`` (an object, or its JSON text), or an event.
    :param document: the document of the start step.
    """
    if isinstance(given, dict) and "detail-type" in given:
        given = {"Events": [given]}
    if not isinstance(given, dict) or not set(given) <= _KNOWN_INPUT:
        what = sorted(set(given) - _KNOWN_INPUT)[0] if isinstance(given, dict) else type(given).__name__
        sys.exit('The input of the execution holds %r. It must be like {"Parameters": {"alpha": 1}}.' % what)
    parameters = given.get("Parameters") or {}
    if isinstance(parameters, str):
        parameters = json.loads(parameters or "{}")
    events = given.get("Events") or []
    values = {**_mapped(events, document["mappings"]), **parameters}
    _check(values, document)
    texts = {name: one if isinstance(one, str) else json.dumps(one) for name, one in values.items() if one is not None}
    return texts, {"origin": given.get("Origin"), "events": [_trigger(one) for one in events]}


def _check(values: Mapping[str, Any], document: MachineStep) -> None:
    unknown = sorted(set(values) - set(document["parameters"]))
    if unknown:
        known = ", ".join(document["parameters"]) or "none"
        sys.exit("The flow %s has no parameter %r. Parameters are: %s." % (document["flow_name"], unknown[0], known))
    missing = [name for name in document["required"] if values.get(name) is None]
    if missing:
        sys.exit("The flow %s needs a value for its parameter %r." % (document["flow_name"], missing[0]))


def _mapped(events: list[AwsEvent], mappings: list[EventMapping]) -> Mapping[str, Any]:
    """Return values of parameters, of JSON types, from the payloads of events."""
    by_name = {one["event"]: one for one in mappings}
    found = {}
    for event in events:
        mapping = by_name.get(event["detail-type"])
        payload = event.get("detail") or {}
        for parameter, field in mapping["parameters"] if mapping else ():
            if field in payload:
                found[parameter] = payload[field]
            elif mapping and mapping["all_needed"]:
                sys.exit("The event %r has no field %r in its payload." % (event["detail-type"], field))
    return found


def _trigger(event: AwsEvent) -> TriggerFacts:
    """Return what ``current.trigger`` is made of (``metaflow.events.Trigger``)."""
    detail = event.get("detail") or {}
    if event.get("source") == "aws.states":
        machine = detail["stateMachineArn"].rpartition(":")[2]
        flow = machine.rpartition(".")[2]
        run = "%s/sfn-%s/end" % (flow, detail["name"])
        return {"timestamp": _seconds(event), "id": run, "name": "metaflow.%s.end" % machine, "type": "run"}
    return {
        "timestamp": detail.get("timestamp", _seconds(event)),
        "id": detail.get("id", event.get("id")),
        "name": event["detail-type"],
        "type": "event",
    }


def _seconds(event: AwsEvent) -> int | None:
    text = event.get("time")
    return int(datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()) if text else None


def _continue_loop(document: MachineStep, storage: Any) -> None:
    """Find out which iteration of a recursive switch it is: that after the last one that has reported its choice."""
    before = load_json(storage, "%s/%s" % (document["at"], document["step"]))
    if before is not None:
        repeats = before["reported"] == document["step"]
        os.environ[place.ITERATION_VARIABLE] = str(before["iteration"] + repeats)


def depart(document: MachineStep, results: Any, status: int, outcome: Outcome | None) -> int:
    """Report to the state machine how the task ended, and return the exit status of the job.

    :param document: the document of the step.
    :param results: the module ``task_results``.
    :param status: exit status of the task.
    :param outcome: its outcome document, if it succeeded.
    """
    storage = results.flow_datastore(document)._storage_impl
    where = "%s/%s" % (document["at"], document["step"])
    if status == NO_RETRY:
        save_json(storage, where + ".final", {"status": status})
    if outcome is None or "reports" not in document:
        return status
    fact: Any = {
        "splits": outcome.get("num_splits"),
        "nodes": outcome.get("num_parallel"),
        "next": next(iter(outcome.get("next") or ()), None),
    }[document["reports"]]
    if document["reports"] == "splits" and document.get("is_array") and fact > MAX_SPLITS:
        print(
            "The foreach of %s has %d splits; AWS Batch allows %d children of an array. "
            "Deploy the flow with --max-workers, which makes a distributed map of it."
            % (document["step"], fact, MAX_SPLITS),
            file=sys.stderr,
        )
        return 1
    iteration = int(os.environ.get(place.ITERATION_VARIABLE) or 0)
    save_json(storage, where, {"reported": fact, "iteration": iteration})
    return status
