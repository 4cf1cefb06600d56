"""What AWS refuses of a definition and moto 5.2.5 takes (Amazon States Language; Step Functions, service quotas)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

MAX_DEFINITION_BYTES = 1024 * 1024
MAX_NAME = 80
_SUBMIT_JOB = {
    "ArrayProperties", "ContainerOverrides", "DependsOn", "JobDefinition", "JobName", "JobQueue", "Parameters",
    "PropagateTags", "RetryStrategy", "ShareIdentifier", "SchedulingPriorityOverride", "Timeout", "Tags",
}  # fmt: skip
"""Parameters of `batch:submitJob` (developer guide, "Run AWS Batch workloads with Step Functions")."""

_OPTIMIZED = {"batch:submitJob": ("batch", "SubmitJob"), "sns:publish": ("sns", "Publish")}


def refuse(text: str) -> str | None:
    """Return why AWS refuses a definition, None if it does not."""
    if len(text.encode()) > MAX_DEFINITION_BYTES:
        return "it has over 1 MB"
    return next(_problems(json.loads(text)), None)


def _problems(definition: dict[str, Any]) -> Iterator[str]:
    seen: set[str] = set()
    for scope in _scopes(definition):
        states = scope["States"]
        if scope["StartAt"] not in states:
            yield f"StartAt {scope['StartAt']!r} is no state"
        for name, state in states.items():
            if len(name) > MAX_NAME:
                yield f"the name {name!r} has over {MAX_NAME} characters"
            if name in seen:
                yield f"the name {name!r} stands twice"
            seen.add(name)
            yield from (f"{name!r} leads to {one!r}, which is no state of its scope" for one in _targets(state)
                        if one not in states)  # fmt: skip
            if state["Type"] == "Fail" and str(state.get("Error", "")).startswith("States."):
                yield f"{name!r}: names of errors that begin with States. are kept for AWS"
            yield from _unknown_fields(name, state)
            yield from _bad_expressions(name, state)
        lost = set(states) - _reached(scope)
        if lost:
            yield f"no state leads to {sorted(lost)[0]!r}"


def _scopes(scope: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield scope
    for state in scope["States"].values():
        for inner in (*state.get("Branches", ()), state.get("ItemProcessor"), state.get("Iterator")):
            if inner:
                yield from _scopes(inner)


def _targets(state: dict[str, Any]) -> Iterator[str]:
    rules = [*state.get("Choices", ()), *state.get("Catch", ())]
    yield from (one["Next"] for one in (state, *rules) if "Next" in one)
    if "Default" in state:
        yield state["Default"]


def _reached(scope: dict[str, Any]) -> set[str]:
    found: set[str] = set()
    waiting = [scope["StartAt"]]
    while waiting:
        name = waiting.pop()
        if name not in found and name in scope["States"]:
            found.add(name)
            waiting += _targets(scope["States"][name])
    return found


def _unknown_fields(name: str, state: dict[str, Any]) -> Iterator[str]:
    """Yield fields that the called action does not have."""
    arguments = state.get("Arguments", state.get("Parameters"))
    if state["Type"] != "Task" or not isinstance(arguments, dict):
        return
    if ":states:::batch:submitJob" in state["Resource"]:
        yield from (f"{name!r}: batch:submitJob takes no {one!r}" for one in sorted(set(arguments) - _SUBMIT_JOB)
                    if not one.endswith(".$"))  # fmt: skip
    shape = _input_shape(state["Resource"].split(":states:::")[-1])
    if shape is not None:
        yield from (f"{name!r}: the action has no field {one!r}" for one in _foreign(arguments, shape))


@cache
def _input_shape(resource: str) -> Any:
    called = resource.removesuffix(".sync").removesuffix(".sync:2")
    if called in _OPTIMIZED:
        service, action = _OPTIMIZED[called]
    elif called.startswith("aws-sdk:"):
        _, service, action = called.split(":")
        action = action[0].upper() + action[1:]
    else:
        return None
    return _model(service).operation_model(action).input_shape


@cache
def _model(service: str) -> Any:
    """Read once: a session of botocore and the model of a service take 50 ms together."""
    import botocore.session

    return botocore.session.get_session().get_service_model(service)


def _foreign(value: Any, shape: Any) -> Iterator[str]:
    if shape.type_name == "structure" and isinstance(value, dict):
        members = {one[0].upper() + one[1:]: inner for one, inner in shape.members.items()}
        for given, inner in value.items():
            field = given.removesuffix(".$")
            if field not in members:
                yield field
            else:
                yield from _foreign(inner, members[field])
    elif shape.type_name == "list" and isinstance(value, list):
        for one in value:
            yield from _foreign(one, shape.member)


def _bad_expressions(name: str, value: Any) -> Iterator[str]:
    """Yield expressions that are no JSONata."""
    import jsonata

    if isinstance(value, str) and value.startswith("{%") and value.endswith("%}"):
        try:
            jsonata.Jsonata(value[2:-2])
        except Exception as error:
            yield f"{name!r}: {value!r} is no JSONata ({error})"
    elif isinstance(value, (dict, list)):
        inside = value.items() if isinstance(value, dict) else enumerate(value)
        for key, one in inside:
            if key not in ("Branches", "ItemProcessor"):
                yield from _bad_expressions(name, one)
