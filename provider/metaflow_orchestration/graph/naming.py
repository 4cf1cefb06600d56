"""Names that orchestrators accept."""

from __future__ import annotations

import hashlib
import re

from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.model import FlowGraph, Step

_VALID_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_MAX_NAME = 250
"""Length of a DAG id (``airflow.models.dag``: ID_LEN)."""


def project_name(full: str) -> str:
    """Return the name of a ``@project``'s deployment as a DAG id.

    The branch may hold the name of a user, which may be a mail address. A hash keeps changed names apart from others.

    >>> project_name("churn.user.ann@mail.example.TrainFlow")
    'churn.user.ann-mail.example.TrainFlow-d8e4f8'

    :param full: ``project.branch.Flow``.
    """
    plain = re.sub(r"[^A-Za-z0-9_.-]", "-", full)
    return full if plain == full else f"{plain}-{hashlib.sha256(full.encode()).hexdigest()[:6]}"


def check_name(name: str, flow_name: str) -> None:
    """Check that a name can be a DAG id.

    :param name: the name.
    :param flow_name: flow to name in the error.
    :raises InvalidOptionError: if it holds other than ASCII letters, digits, ``_ . -`` or is over 250 long.
    """
    if not _VALID_NAME.fullmatch(name):
        raise InvalidOptionError(
            f"{name!r} cannot be a DAG id.",
            flow=flow_name,
            hint="Use letters, digits, dashes, dots and underscores only.",
        )
    if len(name) > _MAX_NAME:
        raise InvalidOptionError(
            f"the DAG id {name[:40]}… has {len(name)} characters; Airflow allows {_MAX_NAME}.",
            flow=flow_name,
            hint="Choose a shorter --name or branch.",
        )


def end_event(graph: FlowGraph) -> str:
    """Return the name of the event of a finished run, which ``@trigger_on_finish`` waits for.

    :param graph: the flow.
    """
    return f"metaflow.{graph.deployed_name}.end"


def emitted_events(graph: FlowGraph, step: Step) -> tuple[str, ...]:
    """Return the names of the events that a finished task of a step can emit.

    The names are those of Metaflow's Argo deployer: ``metaflow.[project.branch.]Flow.step``, and for the end step
    ``….end`` whatever it is called.

    :param graph: the flow.
    :param step: the step.
    """
    stem = f"metaflow.{graph.deployed_name}"
    names = [f"{stem}.{step.name}"]
    if step.name == graph.end and step.name != "end":
        names.append(end_event(graph))
    return tuple(names)
