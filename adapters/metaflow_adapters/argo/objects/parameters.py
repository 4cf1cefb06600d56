"""The parameters of a flow as arguments of a workflow."""

from __future__ import annotations

from collections.abc import Iterator

from metaflow_orchestration.exceptions import UnsupportedFeatureError
from metaflow_orchestration.graph.model import FlowGraph, ParameterType
from metaflow_orchestration.graph.model import Parameter as FlowParameter

from .metadata import AUTOMATIC, ORIGIN
from .spec import Parameter, Spec
from .values import harmless, sealed

NULL = "null"
"""Text of a parameter that the flow sees as ``None``, where that is its default."""

_RESERVED = ("json", ORIGIN)


def emit_parameters(graph: FlowGraph) -> Iterator[Spec]:
    """Yield the parameters of a flow, typed and described for Argo's user interface.

    :param graph: the flow.
    :raises UnsupportedFeatureError: if Argo keeps a name for itself.
    """
    for one in graph.parameters:
        if one.name in _RESERVED:
            raise UnsupportedFeatureError(
                f"the parameter {one.name!r} has a name that is reserved on Argo Workflows.",
                flow=graph.name,
                hint="Rename it.",
            )
        described = harmless(" ".join(filter(None, [one.help, f"({_type(one)})"])))
        choices = ["True", "False"] if one.type is ParameterType.BOOL else None
        if one.required and one.default is None:
            yield Parameter(name=one.name, description=described, enum=choices)
        else:
            value = default_of(one)
            if choices is not None and value not in choices:
                choices = [*choices, value]
            yield Parameter(name=one.name, value=value, description=described, enum=choices)
    yield Parameter(name=ORIGIN, value="", description=AUTOMATIC)


def default_of(parameter: FlowParameter) -> str:
    """Return the value of a parameter that is not given.

    :param parameter: the parameter.
    """
    return NULL if parameter.default is None else sealed(parameter.default)


def _type(parameter: FlowParameter) -> str:
    return f"{parameter.type.value}, required" if parameter.required else parameter.type.value
