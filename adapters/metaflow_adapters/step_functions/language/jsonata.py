"""Expressions of JSONata, the query language of our state machines. User text enters only as a literal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def quoted(value: Any) -> str:
    """Return JSON types as a literal of JSONata, whose strings are written like those of JSON.

    :param value: JSON types.
    """
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def text(value: str) -> str:
    """Return a string as a literal in single quotes, which a definition in JSON need not escape.

    :param value: any text.
    """
    if value.isascii() and value.isprintable() and "'" not in value and "\\" not in value:
        return f"'{value}'"
    return quoted(value)


class Text(str):
    """A text for :func:`joined`, in which all else is an expression."""

    __slots__ = ()


def joined(*parts: str) -> str:
    """Return an expression for texts and values one after the other; neighbouring texts become one literal.

    :param parts: expressions, and texts as :class:`Text`.
    """
    found: list[str] = []
    literal_so_far = ""
    for part in (*parts, None):
        if isinstance(part, Text):
            literal_so_far += part
            continue
        if literal_so_far:
            found.append(text(literal_so_far))
            literal_so_far = ""
        if part is not None:
            found.append(part)
    return "&".join(found)


def evaluated(expression: str) -> str:
    """Return the value of a field that Step Functions evaluates.

    :param expression: an expression of JSONata.
    """
    return f"{{% {expression} %}}"


def literal(value: str) -> str:
    """Return the value of a field that stands for a text as it is.

    Step Functions takes a string for an expression if it begins with ``{%`` and ends with ``%}`` (Amazon States
    Language, JSONata).

    :param value: any text.
    """
    return evaluated(text(value)) if value.startswith("{%") and value.endswith("%}") else value


def to_json(definition: Mapping[str, Any]) -> str:
    """Return a definition as text without any space, for its size is limited.

    :param definition: the definition.
    """
    return json.dumps(definition, separators=(",", ":"), ensure_ascii=False)
