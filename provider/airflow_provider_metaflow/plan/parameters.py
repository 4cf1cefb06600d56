"""Parameters of a flow as JSON schemas, and their values in the text form of Metaflow's command line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from metaflow_orchestration.exceptions import ParameterValueError
from metaflow_orchestration.graph.model import FlowGraph, Parameter, ParameterType

_SCHEMA_TYPES: dict[ParameterType, list[str]] = {
    ParameterType.INT: ["integer"],
    ParameterType.FLOAT: ["number"],
    ParameterType.BOOL: ["boolean"],
    ParameterType.STR: ["string"],
    ParameterType.FILE: ["string"],
    # A JSON text is taken as it is, so that a string pasted into a form works.
    ParameterType.JSON: ["object", "array", "string", "number", "boolean"],
}

_EXACT = 2**53
"""Up to here every integer is exact in a browser, where Airflow's trigger form is filled in (RFC 8259)."""

UNSET = object()
"""A parameter that has no default."""


def json_schema(parameter: Parameter, default: Any = None) -> dict[str, Any]:
    """Return the JSON schema of a parameter's values.

    :param parameter: the parameter.
    :param default: its default, as :func:`default_value` returns it; may be the text of a number.
    """
    types = list(_SCHEMA_TYPES[parameter.type])
    if "string" not in types and isinstance(default, str):
        # The form shows the first one.
        types.insert(0, "string")
    if not parameter.required:
        types.append("null")
    return {"type": types[0] if len(types) == 1 else types, "title": parameter.name}


def is_template(value: Any) -> bool:
    """Return whether a value is text for Jinja, or holds some.

    :param value: a value of a DAG file.
    """
    if isinstance(value, str):
        return any(mark in value for mark in ("{{", "{%", "{#"))
    if isinstance(value, Mapping):
        return any(map(is_template, value.values()))
    return isinstance(value, (list, tuple)) and any(map(is_template, value))


def default_value(parameter: Parameter) -> Any:
    """Return the default as a value of the schema, ``UNSET`` if a value must be given.

    :param parameter: the parameter.
    """
    if parameter.required:
        return UNSET
    return None if parameter.default is None else typed_value(parameter, parameter.default)


def json_number(value: Any) -> Any:
    """Return a number as JSON can carry it to Airflow and its trigger form: a text if it would arrive as another one.

    JSON has no infinity and no NaN, and integers beyond 2^53 are rounded in a browser.

    :param value: a value; others than numbers are returned as they are.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _EXACT:
        return str(value)
    return value


def typed_value(parameter: Parameter, text: str) -> Any:
    """Return the value of the schema that a text of Metaflow's command line stands for.

    :param parameter: the parameter.
    :param text: the text.
    """
    convert = _CONVERTERS.get(parameter.type)
    return json_number(convert(text)) if convert else text


def conf_value(parameter: Parameter, value: Any) -> Any:
    """Return what a DAG run must be given for a value that Metaflow's command line has parsed.

    :param parameter: the parameter.
    :param value: the value.
    """
    if isinstance(value, str):
        # A text would be taken for JSON.
        return json.dumps(value) if parameter.type is ParameterType.JSON else typed_value(parameter, value)
    return exact_value(value)


def exact_value(value: Any) -> Any:
    """Return a value of a DAG file so that JSON carries it as it is: with :func:`json_number`, also inside of others.

    :param value: a value of JSON types.
    """
    if isinstance(value, (Mapping, list, tuple)):
        return value if _is_exact(value) else json.dumps(value)
    return json_number(value)


def _json_or_text(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if _is_exact(value) else text


def _is_exact(value: Any) -> bool:
    """Return whether all numbers in a value of JSON types arrive as they are; see :func:`json_number`."""
    if isinstance(value, Mapping):
        return all(map(_is_exact, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_exact, value))
    return json_number(value) is value


def _truth(text: str) -> bool:
    return text.strip().lower() in ("true", "1", "yes", "y", "t", "on")


_CONVERTERS: dict[ParameterType, Callable[[str], Any]] = {
    ParameterType.INT: int,
    ParameterType.FLOAT: float,
    ParameterType.BOOL: _truth,
    ParameterType.JSON: _json_or_text,
}


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
            return _json_text(value)
        case ParameterType.BOOL:
            return _bool_text(graph, parameter, value)
        case ParameterType.INT | ParameterType.FLOAT:
            return _number_text(graph, parameter, value)
        case ParameterType.FILE if isinstance(value, Mapping):
            # A descriptor of a file that was uploaded.
            return json.dumps(value)
        case _:
            return _string_text(graph, parameter, value)


def _string_text(graph: FlowGraph, parameter: Parameter, value: Any) -> str:
    if isinstance(value, (list, tuple)) and parameter.separator:
        return parameter.separator.join(map(str, value))
    if not isinstance(value, (str, int, float, bool)):
        raise _mismatch(graph, parameter, value)
    return str(value)


def _bool_text(graph: FlowGraph, parameter: Parameter, value: Any) -> str:
    if not isinstance(value, bool) and str(value).lower() not in ("true", "false"):
        raise _mismatch(graph, parameter, value)
    return str(value)


def _json_text(value: Any) -> str:
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
        number = convert(value)
    except (TypeError, ValueError, OverflowError):
        raise _mismatch(graph, parameter, value) from None
    is_nan = isinstance(value, float) and math.isnan(value)
    if isinstance(value, bool) or (isinstance(value, float) and number != value and not is_nan):
        raise _mismatch(graph, parameter, value)
    return repr(number)


def _mismatch(graph: FlowGraph, parameter: Parameter, value: Any) -> ParameterValueError:
    return ParameterValueError(
        f"parameter {parameter.name!r} is of type {parameter.type.value}, but the value is {value!r:.80}.",
        flow=graph.name,
        hint="Give a value of that type.",
    )
