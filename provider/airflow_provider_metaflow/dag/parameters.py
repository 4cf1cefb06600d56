"""Parameters of a flow as JSON schemas, and their values in the text form of Metaflow's command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..exceptions import ParameterValueError
from ..graph.model import FlowGraph, Parameter, ParameterType

_SCHEMA_TYPES: dict[ParameterType, list[str]] = {
    ParameterType.INT: ["integer"],
    ParameterType.FLOAT: ["number"],
    ParameterType.BOOL: ["boolean"],
    ParameterType.STR: ["string"],
    ParameterType.FILE: ["string"],
    # A JSON text is taken as it is, so that a string pasted into a form works.
    ParameterType.JSON: ["object", "array", "string", "number", "boolean"],
}

UNSET = object()
"""A parameter that has no default."""


def json_schema(parameter: Parameter) -> dict[str, Any]:
    """Return the JSON schema of a parameter's values.

    :param parameter: the parameter.
    """
    types = list(_SCHEMA_TYPES[parameter.type])
    if not parameter.required:
        types.append("null")
    return {"type": types[0] if len(types) == 1 else types, "title": parameter.name}


def default_value(parameter: Parameter) -> Any:
    """Return the default as a value of the schema, ``UNSET`` if a value must be given.

    :param parameter: the parameter.
    """
    if parameter.required:
        return UNSET
    if parameter.default is None:
        return None
    match parameter.type:
        case ParameterType.INT:
            return int(parameter.default)
        case ParameterType.FLOAT:
            return float(parameter.default)
        case ParameterType.BOOL:
            return parameter.default.strip().lower() in ("true", "1", "yes", "y", "t", "on")
        case ParameterType.JSON:
            return _json_or_text(parameter.default)
        case _:
            return parameter.default


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def command_line_values(graph: FlowGraph, given: Mapping[str, Any]) -> dict[str, str]:
    """Return all values that ``init`` must be given, as text.

    Deploy-time defaults are not evaluated again by ``init``, so every default is passed; None is passed by leaving the
    option out.

    :param graph: the flow.
    :param given: values by parameter name, as JSON types; others are ignored, e.g. those of a DAG around the flow.
    :raises ParameterValueError: if a value is missing or does not fit the type.
    """
    values = {}
    for parameter in graph.parameters:
        value = given.get(parameter.name, UNSET)
        if value is UNSET:
            if parameter.required:
                raise ParameterValueError(
                    f"parameter {parameter.name!r} is required but no value was given.",
                    flow=graph.name,
                    hint="Give one when you trigger the run.",
                )
            text = parameter.default
        else:
            text = _text(graph, parameter, value)
        if text is not None:
            values[parameter.name] = text
    return values


def _text(graph: FlowGraph, parameter: Parameter, value: Any) -> str | None:
    if value is None:
        if parameter.required:
            raise _mismatch(graph, parameter, value)
        return None
    match parameter.type:
        case ParameterType.JSON:
            return _json_text(graph, parameter, value)
        case ParameterType.BOOL:
            if isinstance(value, bool):
                return str(value)
            if isinstance(value, str) and value.lower() in ("true", "false"):
                return value
            raise _mismatch(graph, parameter, value)
        case ParameterType.INT | ParameterType.FLOAT:
            return _number_text(graph, parameter, value)
        case _:
            if isinstance(value, (list, tuple)) and parameter.separator:
                return parameter.separator.join(map(str, value))
            if not isinstance(value, (str, int, float, bool)):
                raise _mismatch(graph, parameter, value)
            return str(value)


def _json_text(graph: FlowGraph, parameter: Parameter, value: Any) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    try:
        json.loads(value)
    except ValueError:
        # A form hands out a JSON string without its quotes.
        return json.dumps(value)
    return value


def _number_text(graph: FlowGraph, parameter: Parameter, value: Any) -> str:
    convert = int if parameter.type is ParameterType.INT else float
    try:
        if isinstance(value, bool) or (convert is int and isinstance(value, float) and not value.is_integer()):
            raise ValueError
        return repr(convert(value))
    except (TypeError, ValueError):
        raise _mismatch(graph, parameter, value) from None


def _mismatch(graph: FlowGraph, parameter: Parameter, value: Any) -> ParameterValueError:
    return ParameterValueError(
        f"parameter {parameter.name!r} is of type {parameter.type.value}, but the value is {value!r:.80}.",
        flow=graph.name,
        hint="Give a value of that type.",
    )
