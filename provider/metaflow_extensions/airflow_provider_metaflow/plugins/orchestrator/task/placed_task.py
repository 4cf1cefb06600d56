"""Completes the document of a container that was told only its place in the graph: the index path.

Orchestrators that hand on no lists of task ids (Argo Workflows, Step Functions) leave the rest to this module: which
attempt it is, and which tasks the inputs come from. Both stand in the datastore.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import sys
import time
from typing import Any, NamedTuple

PLACE_VARIABLE = "METAFLOW_ORCHESTRATOR_PLACE"
"""Environment variable with the index path, e.g. ``3-0``; before an ``@``, what tells runs of one workflow apart."""

RUN_VARIABLE = "METAFLOW_ORCHESTRATOR_RUN"
"""Environment variable with the run id."""

ITERATION_VARIABLE = "METAFLOW_ORCHESTRATOR_ITERATION"
TRY_VARIABLE = "METAFLOW_ORCHESTRATOR_TRY"
"""Environment variable with the 0-based number of the orchestrator's try."""

NODES_VARIABLE = "METAFLOW_ORCHESTRATOR_NODES"
"""Environment variable with the number of nodes of a gang."""

GANG_VARIABLE = "METAFLOW_ORCHESTRATOR_GANG"
"""Environment variable with what no other attempt of a gang has: the name of its job."""

ADDRESS_VARIABLE = "METAFLOW_ORCHESTRATOR_ADDRESS"

PARAMETERS_VARIABLE = "METAFLOW_ORCHESTRATOR_PARAMETERS"
"""Environment variable with the parameters of the run: base64 of a JSON list of ``{"name": …, "value": …}``,
or of an object with names and values."""

ORIGIN_VARIABLE = "METAFLOW_ORCHESTRATOR_ORIGIN"
"""Environment variable of a resumed run: the origin's run id, names of steps to run again, and, each after two dashes,
names of the parameters that the run was given; with colons between."""

CHANGED_VARIABLE = "METAFLOW_ORCHESTRATOR_CHANGED"
"""Environment variable of a run that goes on in place with other parameters than its first tasks have seen."""

PARAMETERS_TASK_VARIABLE = "METAFLOW_ORCHESTRATOR_PARAMETERS_TASK"
"""Environment variable of the tasks of a resumed run, for ``resumed_run.py``."""

PARAMETERS = ("_parameters", "t-params")
"""Step and task of the parameters."""

MAX_ATTEMPTS = 6
"""Attempts that Metaflow allows for one task (``metaflow.metaflow_config.MAX_ATTEMPTS``)."""


SEAL = "metaflow-base64:"
"""What the value of a parameter begins with that Argo was given in base64, for it would look into it."""

ENCODED = "_BASE64"
"""At the end of the name of a variable whose value an orchestrator has encoded."""


def _read(environment: Any, name: str) -> str:
    encoded: str | None = environment.get(name + ENCODED)
    text: str = environment.get(name, "") if encoded is None else _decoded(encoded)
    return text


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode("utf-8", "replace")


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def _check_name(text: str, what: str) -> None:
    """Refuse a name that leads out of the flow's folder of the datastore; whoever starts a run may choose it."""
    if _NAME.fullmatch(text) is None:
        sys.exit(
            "The name of %s is %s; it may hold letters, digits, dots, dashes and underscores." % (what, ascii(text))
        )


class Place:
    """Where in the run a task stands.

    :param run_id: Metaflow run id.
    :param path: index in every enclosing foreach, outermost first.
    :param iteration: iteration of a recursive switch.
    """

    def __init__(self, run_id: str, path: tuple[int, ...], iteration: int = 0) -> None:
        self.run_id, self.path, self.iteration = run_id, path, iteration

    @classmethod
    def read(cls, environment: Any) -> Place:
        """Read it from the variables that the orchestrator has set."""
        prefix, _, indexes = _read(environment, PLACE_VARIABLE).rpartition("@")
        if prefix.startswith("="):
            # In a user's own workflow: its text may hold what others have chosen.
            prefix = _decoded(prefix[1:])
        run_id = environment[RUN_VARIABLE] + ("-%s" % prefix if prefix else "")
        # Both are parts of paths in the datastore.
        _check_name(run_id, "the run")
        path = tuple(int(index) for index in indexes.split("-") if index)
        return cls(run_id, path, int(environment.get(ITERATION_VARIABLE) or 0))


def task_id(step: str, path: tuple[int, ...], iteration: int = 0) -> str:
    """Return the id of a task, as ``graph/identity.py`` of the core makes it.

    :param step: the step.
    :param path: index in every enclosing foreach.
    :param iteration: iteration of a recursive switch.
    """
    text = "-".join(["t", _step_in_id(step), *map(str, path)])
    return "%s-r%d" % (text, iteration) if iteration else text


def _step_in_id(step: str) -> str:
    if re.fullmatch("[A-Za-z0-9_]{1,64}", step):
        return step
    plain = re.sub("[^A-Za-z0-9_]", "_", step)[:55]
    return "%s.%s" % (plain, hashlib.sha256(step.encode()).hexdigest()[:8])


class Finder:
    """Finds the executed tasks that lead to a step, by what the tasks before it have chosen.

    :param outcome: function from step and task id to the outcome document of a finished task, None without one.
    :param steps: facts of the steps that may have to be walked through, by name; see ``adapters``' ``sources.py``.
    """

    def __init__(self, outcome: Any, steps: dict[str, Any]) -> None:
        self._outcome, self._steps = outcome, steps

    def inputs(self, step: str, sources: dict[str, Any], path: tuple[int, ...]) -> list[str]:
        """Return ``step/task`` of each input, in the order in which a join sees them.

        :param step: the step.
        :param sources: where its inputs come from.
        :param path: its own index path.
        """
        gang = sources.get("gang")
        if gang:
            return ["%s/%s" % (gang, one) for one in self._of(gang, task_id(gang, path))["gang"]]
        places = [path]
        if "foreach" in sources:
            outer = self._of(sources["foreach"], task_id(sources["foreach"], path))
            places = [(*path, index) for index in range(outer["num_splits"])]
        return [self._branch(step, branch, place) for place in places for branch in sources["branches"]]

    def _branch(self, step: str, branch: dict[str, Any], path: tuple[int, ...]) -> str:
        if "parent" in branch:
            return "%s/%s" % (branch["parent"], task_id(branch["parent"], path[: branch["depth"]]))
        current = branch["first"]
        while True:
            facts = self._steps[current]
            own = task_id(current, path[: facts["depth"]])
            following = facts.get("next")
            if following is None:
                own, chosen = self._last_iteration(current, path[: facts["depth"]])
                (following,) = chosen
            if following == step:
                return "%s/%s" % (current, own)
            current = following

    def _last_iteration(self, step: str, path: tuple[int, ...]) -> tuple[str, list[str]]:
        iteration = 0
        while True:
            own = task_id(step, path, iteration)
            chosen = self._of(step, own)["next"]
            if step not in chosen:
                return own, chosen
            iteration += 1

    def _of(self, step: str, task: str) -> dict[str, Any]:
        found: dict[str, Any] | None = self._outcome(step, task)
        if found is None:
            raise LookupError("The task %s/%s, which must come before, has no result in the datastore." % (step, task))
        return found


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

    tries, nodes = (int(os.environ.get(name) or 0) for name in (TRY_VARIABLE, NODES_VARIABLE))

    def count() -> int:
        return next_attempt(datastore, place.run_id, step, own)

    if nodes > 1:
        attempt = _meet(document, datastore, count, nodes)
    else:
        attempt = count()
        # What a container has finished that was lost afterwards is not done again.
        document["finished"] = outcome(step, own) if attempt else None
        if document["finished"]:
            return document
        if nodes:
            # A gang of one has nobody to find; Metaflow runs it as on one machine.
            document["env"].pop("METAFLOW_RUNTIME_ENVIRONMENT", None)
            os.environ.pop("METAFLOW_RUNTIME_ENVIRONMENT", None)
    _check_attempt(attempt, step, own)
    if document.get("counts_submissions"):
        # The orchestrator's count holds submissions that were refused, too.
        tries = min(tries, attempt)
    given, origin = _given(document), Origin.read(os.environ)
    if document["sources"] is None:
        document["init"] = _init(document, place.run_id, given)
    _leave_parameters(document, place.run_id, origin)
    if document.get("triggers"):
        document["env"]["METAFLOW_ORCHESTRATOR_TRIGGERS"] = json.dumps(received_events(document["triggers"], given))
    left = max(document["retries"] - tries, 0)
    inputs = _inputs(document, place, outcome)
    document["arguments"] = [
        *document["top_level"],
        *document["with"],
        "step",
        step,
        "--run-id=%s" % place.run_id,
        "--retry-count=%d" % attempt,
        "--max-user-code-retries=%d" % max(attempt + left - document["error_retries"], -1),
        # For current.origin_run_id and the client's origin_pathspec.
        *(["--clone-run-id=%s" % origin.run_id] if origin else []),
        *document["step_options"],
        "--input-paths=%s" % ",".join("%s/%s" % (place.run_id, one) for one in inputs),
    ]
    document["clones"] = origin.source(document, place, datastore, outcome) if origin else []
    options = _own_options(document, place.path)
    document.update(attempt=attempt, tasks=[{"task_id": own, "arguments": ["--task-id=%s" % own, *options]}])
    document["env"].update(
        METAFLOW_RUN_ID=place.run_id, METAFLOW_STEP_NAME=step, METAFLOW_RETRY_COUNT=str(attempt), METAFLOW_TASK_ID=own
    )
    os.environ.update(document["env"])
    return document


def _inputs(document: dict[str, Any], place: Place, outcome: Any) -> list[str]:
    if document["sources"] is None:
        return ["/".join(PARAMETERS)]
    step = document["step"]
    if place.iteration:
        return ["%s/%s" % (step, task_id(step, place.path, place.iteration - 1))]
    return Finder(outcome, document.get("steps") or {}).inputs(step, document["sources"], place.path)


def _check_attempt(attempt: int, step: str, own: str) -> None:
    if attempt >= MAX_ATTEMPTS:
        sys.exit(
            "Metaflow allows %d attempts of a task, and %s/%s has had them; resume the run in a new one."
            % (MAX_ATTEMPTS, step, own)
        )


def _meet(document: dict[str, Any], datastore: Any, count: Any, nodes: int) -> int:
    """Bring the nodes of a gang together: the control node leaves its address and attempt where the others look.

    Only it counts the attempts: the others would count the one that it has just started.
    """
    document["gang"] = nodes
    storage = datastore._storage_impl
    # In a folder of the flow, so that a job needs no rights on those of others.
    path = storage.path_join("mf.gangs", datastore.flow_name, os.environ[RUN_VARIABLE], os.environ[GANG_VARIABLE])
    if int(os.environ.get("JOB_COMPLETION_INDEX") or os.environ.get("AWS_BATCH_JOB_NODE_INDEX") or 0) == 0:
        # AWS Batch itself tells the nodes where the main one is.
        record = {"attempt": count(), "address": os.environ.get(ADDRESS_VARIABLE)}
        storage.save_bytes([(path, io.BytesIO(json.dumps(record).encode()))], overwrite=True)
    else:
        record = _await_record(storage, path)
    if record["address"]:
        os.environ["MF_MASTER_ADDR"] = document["env"]["MF_MASTER_ADDR"] = record["address"]
    return int(record["attempt"])


def _await_record(storage: Any, path: str, seconds: float = 600) -> dict[str, Any]:
    end = time.monotonic() + seconds
    while not storage.is_file([path])[0]:
        if time.monotonic() > end:
            sys.exit("The control node of the gang has not started in %d s." % seconds)
        time.sleep(1)
    with storage.load_bytes([path]) as found:
        for _, local, _ in found:
            with open(local, encoding="utf-8") as file:
                record: dict[str, Any] = json.load(file)
    return record


class Origin(NamedTuple):
    """The run that a resumed one takes finished tasks and parameters from.

    :param run_id: its run id.
    :param rerun: steps that run again; whoever resumes a run names all that follow a step, too.
    :param given: parameters that the resumed run was given; all others are those of the origin.
    """

    run_id: str
    rerun: tuple[str, ...]
    given: tuple[str, ...]

    @classmethod
    def read(cls, environment: Any) -> Origin | None:
        """Read it from the variable that the orchestrator has set; None if the run resumes no other one."""
        run_id, *words = _read(environment, ORIGIN_VARIABLE).split(":")
        if not run_id:
            return None
        _check_name(run_id, "the run to resume")
        given = tuple(word[2:] for word in words if word.startswith("--"))
        return cls(run_id, tuple(word for word in words if not word.startswith("--")), given)

    def source(self, document: dict[str, Any], place: Place, datastore: Any, outcome: Any) -> list[str]:
        """Return ``run/step/task`` of the result that a task takes over, with all nodes of a gang.

        Nothing is returned where the task must run.
        """
        step = document["step"]
        own = task_id(step, place.path, place.iteration)
        if step in self.rerun or self._has_changed(step, place, datastore):
            return []
        found = outcome(step, own, self.run_id)
        if found is None:
            # Of a release before 0.1.0, whose task ids are unique in their step only.
            own = own.replace("t-" + _step_in_id(step), "t", 1)
            found = outcome(step, own, self.run_id)
        if found is None:
            found = self._of_other_deployer(document, place, datastore)
        told = document.get("tells") or next(iter(document.get("outputs") or ()), None)
        fact = {"splits": "num_splits", "nodes": "num_parallel"}.get(told or "")
        if found is None or (fact and found.get(fact) is None):
            return []
        sources = ["%s/%s/%s" % (self.run_id, step, one) for one in found.get("gang") or [found.get("task_id", own)]]
        print("The result of %s is taken over." % sources[0], file=sys.stderr)
        return sources

    def _has_changed(self, step: str, place: Place, datastore: Any) -> bool:
        if not _is_done(datastore, place.run_id, *PARAMETERS):
            # The first step, before anything of the run is stored; what follows it will see whether it has changed.
            return False
        from origin_tasks import changed_steps  # type: ignore[import-not-found]

        return step in changed_steps(datastore, place.run_id, self.run_id)

    def _of_other_deployer(self, document: dict[str, Any], place: Place, datastore: Any) -> dict[str, Any] | None:
        if _is_done(datastore, self.run_id, *PARAMETERS):
            # Tasks of this package are found by their ids.
            return None
        from origin_tasks import find_tasks

        gang = bool(document.get("is_gang"))
        tasks = find_tasks(datastore, self.run_id, document["step"], len(place.path), gang)
        found: dict[str, Any] | None = tasks.get(task_id(document["step"], place.path, place.iteration))
        return found


def _leave_parameters(document: dict[str, Any], run_id: str, origin: Origin | None) -> None:
    """Tell ``init`` which parameters are the origin's, and all steps where those of their own run are."""
    if origin and "init" in document:
        document["init"]["inherit"] = {"run": origin.run_id, "given": list(origin.given)}
    if origin or os.environ.get(CHANGED_VARIABLE):
        document["env"][PARAMETERS_TASK_VARIABLE] = "/".join([run_id, *PARAMETERS])


def _is_done(datastore: Any, run_id: str, step: str, task: str) -> bool:
    from metaflow.datastore.exceptions import DataException

    try:
        datastore.get_task_datastore(run_id, step, task)
    except DataException:
        return False
    return True


def _own_options(document: dict[str, Any], path: tuple[int, ...]) -> list[str]:
    if document["clones"]:
        return ["--clone-only=%s" % document["clones"][0]]
    if document.get("is_gang"):
        return ["--split-index=0", "--ubf-context=ubf_control"]
    return ["--split-index=%d" % path[-1]] if path else []


def _given(document: dict[str, Any]) -> list[dict[str, Any]]:
    given: Any = document.pop("given", None) or json.loads(
        base64.b64decode(os.environ.get(PARAMETERS_VARIABLE) or "") or "[]"
    )
    if not isinstance(given, list):
        given = [{"name": name, "value": value} for name, value in given.items()]
    return [{**one, "value": _unsealed(one["value"])} if "value" in one else one for one in given]


def _unsealed(value: Any) -> Any:
    """Return a value that ``metaflow_adapters.argo.objects.values`` may have encoded."""
    return _decoded(value[len(SEAL) :]) if isinstance(value, str) and value.startswith(SEAL) else value


def received_events(triggers: dict[str, str], given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what ``current.trigger`` is made of (``metaflow.events.Trigger``).

    :param triggers: type of each event, ``event`` or ``run``, by the parameter that takes its payload.
    :param given: parameters of the workflow.
    """
    found = []
    for one in given:
        kind, text = triggers.get(one["name"]), one.get("value")
        if kind is None or text in (None, "null"):
            continue
        try:
            payload = json.loads(text)
        except ValueError:
            payload = {}
        found.append({**{name: payload.get(name) for name in ("timestamp", "id", "name")}, "type": kind})
    return found


def _init(document: dict[str, Any], run_id: str, given: list[dict[str, Any]]) -> dict[str, Any]:
    nullable = document.get("nullable") or []
    known = document["parameters"]
    values = {one["name"]: one.get("value") for one in given if one["name"] in known}
    arguments = [
        *document["top_level"],
        "init",
        "--run-id=%s" % run_id,
        "--task-id=%s" % PARAMETERS[1],
        *document["init_options"],
        *(
            "--%s=%s" % (name, value)
            for name, value in values.items()
            if value is not None and not (value == "null" and name in nullable)
        ),
    ]
    # Metaflow would take their values for paths; `file_parameters.py` checks them.
    return {"task_id": PARAMETERS[1], "arguments": arguments, "files": document.get("files") or {}}


def next_attempt(datastore: Any, run_id: str, step: str, task: str) -> int:
    """Return the number of the attempt to make: that after the last one that was started.

    The orchestrator's own count starts anew when a user retries a workflow, and counts pods that never came to
    Metaflow; readers of a task want attempts without gaps, and the highest wins.
    """
    for attempt in range(MAX_ATTEMPTS):
        found = datastore.get_task_datastore(run_id, step, task, attempt=attempt, mode="w")
        if not found.has_metadata(found.METADATA_ATTEMPT_SUFFIX):
            return attempt
    return MAX_ATTEMPTS


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
