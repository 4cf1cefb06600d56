"""The parameters that a run was given: for ``init``, and as events for ``current.trigger``."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

from task_place import PARAMETERS, PARAMETERS_VARIABLE, decoded  # type: ignore[import-not-found]

if TYPE_CHECKING:
    from .task_documents import GivenParameter, InitRequest, StepDocument, TriggerFacts

SEAL = "metaflow-base64:"
"""What the value of a parameter begins with that Argo was given in base64, for it would look into it."""


def given_parameters(document: StepDocument) -> list[GivenParameter]:
    """Return the parameters that the run was given, with the document or by the variable, each as name and value.

    :param document: document of the step; its own ones are taken out of it.
    """
    given: Any = document.pop("given", None) or json.loads(
        base64.b64decode(os.environ.get(PARAMETERS_VARIABLE) or "") or "[]"
    )
    if not isinstance(given, list):
        given = [{"name": name, "value": value} for name, value in given.items()]
    parameters: list[GivenParameter] = given
    for one in parameters:
        if "value" in one:
            one["value"] = unsealed(one["value"])
    return parameters


def unsealed(value: Any) -> Any:
    """Return a value that ``metaflow_adapters.argo.objects.values`` may have encoded."""
    return decoded(value[len(SEAL) :]) if isinstance(value, str) and value.startswith(SEAL) else value


def received_events(triggers: dict[str, str], given: list[GivenParameter]) -> list[TriggerFacts]:
    """Return what ``current.trigger`` is made of (``metaflow.events.Trigger``).

    :param triggers: type of each event, ``event`` or ``run``, by the parameter that takes its payload.
    :param given: parameters of the workflow.
    """
    found: list[TriggerFacts] = []
    for one in given:
        kind, text = triggers.get(one["name"]), one.get("value")
        if kind is None or text in (None, "null"):
            continue
        try:
            payload = json.loads(text)
        except ValueError:
            payload = {}
        timestamp, identity, name = (payload.get(field) for field in ("timestamp", "id", "name"))
        found.append({"timestamp": timestamp, "id": identity, "name": name, "type": kind})
    return found


def init_command(document: StepDocument, run_id: str, given: list[GivenParameter]) -> InitRequest:
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
