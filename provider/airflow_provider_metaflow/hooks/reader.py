"""Answers one question about Metaflow's runs, in a process of its own: a JSON object in, a JSON object out.

Metaflow reads its configuration when it is imported and unpickles artifacts into the process that asks, so Airflow's
own processes never import it. Runs as a script of the steps' interpreter: standard library and Metaflow only.

Answers hold ``error`` (one sentence) if the question could not be answered, and ``transient`` if it may be later.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any


class CannotAnswerError(Exception):
    """The question has no answer; the message says why."""


def main() -> None:
    """Read the question from standard input, and write the answer to standard output."""
    question = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):
        answer = answer_to(question)
    json.dump(answer, sys.stdout)


def answer_to(question: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to a question.

    :param question: ``{"op": NAME, …}``, see the functions below.
    """
    try:
        import metaflow
        from metaflow.exception import MetaflowException, MetaflowNotFound
    except ImportError as error:
        return {"error": f"{sys.executable} cannot import Metaflow ({error})", "transient": False}
    metaflow.namespace(question.get("namespace"))
    try:
        return _OPERATIONS[question["op"]](question)
    except CannotAnswerError as error:
        return {"error": str(error), "transient": False}
    except MetaflowNotFound as error:
        return {"exists": False, "message": str(error)}
    except MetaflowException as error:
        return {"error": f"{error.headline}: {error}", "transient": True}
    except Exception as error:  # told to the one who asks
        return {"error": f"{type(error).__name__}: {error}", "transient": isinstance(error, OSError)}


def _ping(_: dict[str, Any]) -> dict[str, Any]:
    """Ask the metadata service for its version, or look whether the local datastore is there."""
    import metaflow
    from metaflow.plugins import METADATA_PROVIDERS

    kind, _, place = metaflow.get_metadata().partition("@")
    provider = next(one for one in METADATA_PROVIDERS if kind == one.TYPE)
    if kind == "local":
        if not Path(place).is_dir():
            raise CannotAnswerError(f"there is no local datastore at {place}")
        return {"message": f"local metadata in {place}"}
    return {"message": f"metadata service {provider._version(None)} at {place}"}


def _run(question: dict[str, Any]) -> dict[str, Any]:
    """Tell whether a run has finished. ``pathspec``: ``Flow/run``."""
    import metaflow

    run = metaflow.Run(question["pathspec"])
    finished = bool(run.finished)
    return {"exists": True, "finished": finished, "successful": bool(finished and run.successful)}


def _artifact(question: dict[str, Any]) -> dict[str, Any]:
    """Read an artifact. ``pathspec`` of a run (its end task), step (its only task) or task; ``name``; ``max_bytes``."""
    task = _task(question["pathspec"])
    if task is None or question["name"] not in task:
        return {"exists": False, "message": f"{question['pathspec']} has no artifact {question['name']}"}
    if not question.get("value", True):
        return {"exists": True, "task": task.pathspec}
    artifact = task[question["name"]]
    where = f"artifact {question['name']} of {task.pathspec}"
    limit = question["max_bytes"]
    if artifact.size > limit:
        raise CannotAnswerError(f"{where} is {artifact.size} bytes large; the limit is {limit}")
    try:
        text = json.dumps(artifact.data, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CannotAnswerError(f"{where} cannot be told in JSON ({error})") from None
    if len(text) > limit:
        raise CannotAnswerError(f"{where} is {len(text)} bytes large as JSON; the limit is {limit}")
    return {"exists": True, "value": json.loads(text), "task": task.pathspec}


def _task(pathspec: str) -> Any:
    import metaflow

    depth = pathspec.count("/")
    if depth == 1:
        run = metaflow.Run(pathspec)
        return run.end_task if run.finished else None
    if depth == 2:
        tasks = list(metaflow.Step(pathspec))
        if len(tasks) > 1:
            raise CannotAnswerError(f"{pathspec} has {len(tasks)} tasks; name one of them")
        found = tasks[0] if tasks else None
    else:
        found = metaflow.Task(pathspec)
    return found if found is not None and found.successful else None


def _overview(question: dict[str, Any]) -> dict[str, Any]:
    """Describe a run: parameters; per task the names and sizes of artifacts, and cards. ``pathspec``, ``step``."""
    import metaflow

    run = metaflow.Run(question["pathspec"])
    wanted = question.get("step")
    steps = [step for step in run if wanted in (None, step.id)]
    steps.sort(key=lambda step: str(step.created_at))
    left = question.get("max_tasks", 200)
    told: list[dict[str, Any]] = []
    for step in steps:
        tasks = []
        for task in step:
            if left <= 0:
                break
            left -= 1
            tasks.append(_describe(task))
        told.append({"step": step.id, "tasks": tasks})
    return {
        "exists": True,
        "pathspec": run.pathspec,
        "finished": bool(run.finished),
        "tags": sorted(run.user_tags),
        "parameters": _parameters(run),
        "steps": told,
        "complete": left > 0,
    }


def _parameters(run: Any) -> dict[str, str]:
    from metaflow import Step

    task: Any = next(iter(Step(f"{run.pathspec}/_parameters")), None)
    names = [one.id for one in task.artifacts] if task is not None else []
    found = {}
    for name in sorted(names):
        if not name.startswith("_") and name != "name":
            artifact = task[name]
            found[name] = f"({artifact.size} bytes)" if artifact.size > 10_000 else repr(artifact.data)[:500]
    return found


def _describe(task: Any) -> dict[str, Any]:
    artifacts = []
    if task.finished:
        own = [one for one in task.artifacts if one.id != "name" and not one.id.startswith("_")]
        artifacts = [{"name": one.id, "size": one.size} for one in own]
    return {
        "task": task.id,
        "pathspec": task.pathspec,
        "finished": bool(task.finished),
        "successful": bool(task.finished and task.successful),
        "artifacts": sorted(artifacts, key=lambda one: str(one["name"])),
        "cards": _cards(task),
    }


def _cards(task: Any) -> list[dict[str, str]]:
    from metaflow.cards import get_cards

    try:
        return [{"type": card.type, "hash": card.hash} for card in get_cards(task)]
    except Exception:  # a task without cards, or with a datastore that this process cannot read
        return []


def _card(question: dict[str, Any]) -> dict[str, Any]:
    """Return the HTML of a card. ``pathspec`` of a task, ``hash``, ``max_bytes``."""
    import metaflow
    from metaflow.cards import get_cards

    for card in get_cards(metaflow.Task(question["pathspec"])):
        if card.hash == question["hash"]:
            html = card.get()
            if len(html) > question["max_bytes"]:
                raise CannotAnswerError(f"the card is {len(html)} bytes large; the limit is {question['max_bytes']}")
            return {"exists": True, "html": html}
    return {"exists": False, "message": "there is no such card"}


def _trigger(question: dict[str, Any]) -> dict[str, Any]:
    """Start a run of a deployed flow. ``deployment``, ``impl``, ``parameters``."""
    run = _deployed(question).trigger(**question["parameters"])
    return {"pathspec": run.pathspec}


def _status(question: dict[str, Any]) -> dict[str, Any]:
    """Tell how far a triggered run is. ``deployment``, ``impl``, ``pathspec``."""
    run = _triggered(question)
    status = run.status
    text = None if status is None else str(status).upper()
    done = text is not None and text not in ("PENDING", "RUNNING")
    return {"exists": status is not None, "finished": done, "successful": text == "SUCCEEDED", "status": text}


def _terminate(question: dict[str, Any]) -> dict[str, Any]:
    """End a triggered run. ``deployment``, ``impl``, ``pathspec``."""
    return {"terminated": bool(_triggered(question).terminate())}


def _deployed(question: dict[str, Any]) -> Any:
    from metaflow import DeployedFlow

    return DeployedFlow.from_deployment(question["deployment"], impl=question["impl"])


def _triggered(question: dict[str, Any]) -> Any:
    from metaflow import DeployedFlow

    run_id = question["pathspec"].rpartition("/")[2]
    return DeployedFlow.get_triggered_run(question["deployment"], run_id, impl=question["impl"])


_OPERATIONS = {
    "ping": _ping,
    "run": _run,
    "artifact": _artifact,
    "overview": _overview,
    "card": _card,
    "trigger": _trigger,
    "status": _status,
    "terminate": _terminate,
}

if __name__ == "__main__":
    # The folder of this script, where `metaflow` is the module of the hook.
    sys.path.pop(0)
    main()
