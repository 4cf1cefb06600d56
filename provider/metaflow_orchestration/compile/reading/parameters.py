"""Reads the parameters of a flow, and their defaults. Imports Metaflow."""

from __future__ import annotations

import json
from typing import Any

from metaflow_orchestration.exceptions import FlowCompileError
from metaflow_orchestration.graph.model import (
    Parameter,
    ParameterType,
)


def read_parameters(flow: Any, *, with_defaults: bool = True) -> tuple[Parameter, ...]:
    """Return the parameters of a flow, without its configs.

    :param flow: the flow, as Metaflow's command line holds it.
    :param with_defaults: whether their defaults are wanted, which may be functions to call and files to upload.
    :raises FlowCompileError: if a default cannot be used.
    """
    return tuple(
        _read_parameter(flow.name, variable, parameter, with_defaults)
        for variable, parameter in flow._get_parameters()
        if not parameter.IS_CONFIG_PARAMETER
    )


def _read_parameter(flow: str, variable: str, parameter: Any, with_default: bool) -> Parameter:
    options = parameter.kwargs
    kind = _parameter_type(options.get("type"), options.get("default"))
    default = read_default(flow, parameter.name, options.get("default")) if with_default else None
    if not parameter.separator:
        default = _checked_default(flow, parameter, kind, default)
    raw = options.get("type")
    return Parameter(
        name=parameter.name,
        variable=variable,
        type=kind,
        default=_default_text(default, kind, parameter.separator),
        required=bool(options.get("required")),
        help=str(options.get("help") or ""),
        separator=parameter.separator,
        is_text=bool(getattr(raw, "_is_text", True)),
        encoding=getattr(raw, "_encoding", None),
    )


def read_default(flow: str, name: str, default: Any) -> Any:
    """Return the default of a parameter, which may be a function or a file.

    Metaflow's own error is the traceback of what the function has raised, or of its own library for command lines.

    :param flow: name of the flow.
    :param name: name of the parameter.
    :param default: its default, as the flow has it.
    :raises FlowCompileError: if the function fails, or the file cannot be read.
    """
    from metaflow.exception import MetaflowException
    from metaflow.parameters import ParameterFieldFailed, deploy_time_eval

    try:
        return deploy_time_eval(default)
    except ParameterFieldFailed as error:
        cause = error.__context__
        text = getattr(cause, "message", None) or f"{type(cause).__name__}: {cause}"
    except MetaflowException as error:
        text = str(error)
    raise _bad_default(flow, name, text)


def _checked_default(flow: str, parameter: Any, kind: ParameterType, default: Any) -> Any:
    """Return a default in a form whose text is one of its type, as an orchestrator passes it on.

    Metaflow's ``run`` converts it, and refuses what cannot be converted.
    """
    from metaflow._vendor import click

    numbers = {ParameterType.INT: int, ParameterType.FLOAT: float, ParameterType.BOOL: bool}
    if default is None or not (kind in numbers or kind is ParameterType.JSON):
        return default
    convert = click.types.convert_type(numbers.get(kind) or parameter.kwargs["type"]).convert
    try:
        value = convert(default, None, None)
    except click.BadParameter as error:
        raise _bad_default(flow, parameter.name, error.message) from None
    try:
        # `default=2.5` of an integer is 2, and its text none.
        is_same = kind is ParameterType.JSON or repr(convert(str(default), None, None)) == repr(value)
    except click.BadParameter:
        is_same = False
    return default if is_same else value


def _bad_default(flow: str, name: str, text: str) -> FlowCompileError:
    return FlowCompileError(
        f"the default of the parameter {name!r} cannot be used: {' '.join(str(text).split()).rstrip('.')}.",
        flow=flow,
        hint="Correct it in the flow.",
    )


def _parameter_type(raw: Any, default: Any) -> ParameterType:
    if raw is None:
        raw = type(default) if isinstance(default, (bool, int, float, str)) else str
    simple = {bool: ParameterType.BOOL, int: ParameterType.INT, float: ParameterType.FLOAT}
    if raw in simple:
        return simple[raw]
    name = getattr(raw, "name", "")
    return {"JSON": ParameterType.JSON, "FilePath": ParameterType.FILE}.get(name, ParameterType.STR)


def _default_text(value: Any, kind: ParameterType, separator: str | None) -> str | None:
    if value is None:
        return None
    if kind is ParameterType.JSON and not isinstance(value, str):
        return json.dumps(value)
    if separator and isinstance(value, (list, tuple)):
        return separator.join(map(str, value))
    return str(value)
