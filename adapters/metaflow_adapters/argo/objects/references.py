"""References of Argo Workflows, written so that what they stand for arrives as data.

Argo puts values into a template as text. In the manifest of a resource template that text is YAML, where a newline in a
value would begin a field of its own; and what a value holds is looked at for references again. So whatever somebody
who starts a workflow may choose, or a container may write, arrives encoded, and texts of users that stand in a template
as they are may hold no reference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from metaflow_orchestration.exceptions import InvalidOptionError, UnsupportedFeatureError

ENCODED_RUN = "="
"""What a place begins with whose name of the run is encoded."""

_OPEN = "{{"
_PLAIN = re.compile(r"[A-Za-z0-9_.-]*")
_REFERENCE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_PATH = re.compile(r"[A-Za-z_]\w*(\.[\w-]+)*", re.ASCII)


def encoded(reference: str) -> str:
    """Return a reference whose value arrives as base64, in letters that neither YAML nor Argo looks at.

    :param reference: an expression of Argo, e.g. ``inputs.parameters.place``.
    """
    return f"{{{{=sprig.b64enc({reference})}}}}"


def whole_number(reference: str) -> str:
    """Return a reference whose value arrives only if it is a whole number; Kubernetes refuses what comes else.

    :param reference: an expression of Argo.
    """
    return f'{{{{={reference} matches "^[0-9]+$" ? {reference} : "no-number"}}}}'


def parameter(name: str) -> str:
    """Return an expression for a parameter of the workflow.

    :param name: its name, which may hold dashes.
    """
    return f"workflow.parameters[{json.dumps(name)}]" if "-" in name else f"workflow.parameters.{name}"


def run_prefix(run: str, flow: str) -> str:
    """Return what a place begins with in a run of its own: the user's text, its references encoded.

    :param run: text with references, e.g. ``"{{item}}"``.
    :param flow: flow to name in an error.
    :raises InvalidOptionError: if it cannot be a part of a run id.
    """
    if _OPEN not in run:
        _check_plain(run, run, flow)
        return run
    parts, end = [], 0
    for found in _REFERENCE.finditer(run):
        literal = run[end : found.start()]
        _check_plain(literal, run, flow)
        parts += [json.dumps(literal)] if literal else []
        parts.append(f"string({_expression(found[1].strip(), run, flow)})")
        end = found.end()
    _check_plain(run[end:], run, flow)
    parts += [json.dumps(run[end:])] if run[end:] else []
    return ENCODED_RUN + encoded(" + ".join(parts))


def _check_plain(text: str, run: str, flow: str) -> None:
    if _PLAIN.fullmatch(text) is None:
        raise InvalidOptionError(
            f"`run` is {run!r:.80}, which cannot be a part of a run id.",
            flow=flow,
            hint="Use letters, digits, dots, dashes, underscores and references of Argo.",
        )


def _expression(reference: str, run: str, flow: str) -> str:
    if reference.startswith("="):
        return f"({reference[1:]})"
    if _PATH.fullmatch(reference) is None:
        raise InvalidOptionError(f"`run` is {run!r:.80}, which holds no reference that Argo knows.", flow=flow)
    first, *others = reference.split(".")
    return first + "".join(f".{one}" if one.isidentifier() else f"[{json.dumps(one)}]" for one in others)


def refuse_references(what: str, given: Any, *, flow: str, step: str | None = None) -> None:
    """Refuse texts of users that Argo would put values into.

    :param what: what they are, for the error.
    :param given: JSON types.
    :param flow: name of the flow.
    :param step: name of the step.
    :raises UnsupportedFeatureError: naming the first one.
    """
    for text in _texts(given):
        if _OPEN in text:
            raise UnsupportedFeatureError(
                f"{what} holds {text!r:.80}, where Argo Workflows would put in a value.",
                flow=flow,
                step=step,
                hint="Remove the `{{`; values of @environment and of parameters may hold it.",
            )


def _texts(given: Any) -> Iterator[str]:
    if isinstance(given, str):
        yield given
    elif isinstance(given, dict):
        for key, value in given.items():
            yield str(key)
            yield from _texts(value)
    elif isinstance(given, (list, tuple)):
        for one in given:
            yield from _texts(one)
