"""How long the input of an execution may be."""

from __future__ import annotations

import sys

from metaflow_orchestration.graph.model import FlowGraph, ParameterType

NUMBER_LENGTH = 40
"""Longest number that is provided for; a double has 24 characters at most. AWS Batch refuses longer inputs."""

_SHORT = {ParameterType.INT: NUMBER_LENGTH, ParameterType.FLOAT: NUMBER_LENGTH, ParameterType.BOOL: 5}
_ESCAPED = 3
"""How many characters a character has at most where all but letters are escaped (RFC 3986, "Percent-Encoding")."""

_AROUND = 400
"""Names of the fields and the run that is resumed."""


def longest_input(graph: FlowGraph) -> int:
    """Return how many characters the input of an execution may have, escaped as in a URL.

    It holds parameters, events, and what a resume runs again: the names of steps and of parameters.

    :param graph: the flow.
    """
    if graph.triggers or any(one.type not in _SHORT or one.separator is not None for one in graph.parameters):
        return sys.maxsize
    length = _AROUND + sum(len(step.name.encode()) + 1 for step in graph.steps)
    for one in graph.parameters:
        # Its name stands in the values with quotes that are escaped in a text, and among those that were given again.
        length += 2 * len(one.name.encode()) + _SHORT[one.type] + len('\\"\\": , :--')
    return _ESCAPED * length
