"""The parameters that a run was given: for ``init``, and as events for ``current.trigger``."""

from __future__ import annotations

import base64
import json
import os
from typing import Any

from task_place import PARAMETERS, PARAMETERS_VARIABLE, decoded  # type: ignore[import-not-found]

SEAL = "metaflow-base64:"
"""What the value of a parameter begins with that Argo was given in base64, for it would look into it."""


def given_parameters(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the parameters that the run was given, with the document or by the variable, each as name and value.

    :param document: document of the step; its own ones are taken out of it.
    """
    given: Any = document.pop("given", None) or json.loads(
        base64.b64decode(os.environ.get(PARAMETERS_VARIABLE) or "") or "[]"
    )
    if not isinstance(given, list):
        given = [{"name": name, "value": value} for name, value in given.items()]
    return [{**one, "value": unsealed(one["value"])} if "value" in one else one for one in given]


def unsealed(value: Any) -> Any:
    """Return a value that ``metaflow_adapters.argo.objects.values`` may have encoded."""
    return decoded(value[len(SEAL) :]) if isinstance(value, str) and value.startswith(SEAL) else value


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


def init_command(document: dict[str, Any], run_id: str, given: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how Metaflow's ``init`` is called, which stores the parameters of a run.

    :param document: document of the first step.
    :param run_id: Metaflow run id.
    :param given: parameters that the run was given.
    """
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
