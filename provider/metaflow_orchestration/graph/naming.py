"""Names that orchestrators accept."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.model import FlowGraph, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class NameRule:
    """What an orchestrator takes as the name of a deployment.

    :param role: what the name is to be, e.g. ``the name of a state machine``.
    :param owner: what has the name, e.g. ``a state machine``.
    :param pattern: regular expression that all of it matches.
    :param allowed: the pattern in words.
    :param longest: how many characters it may have.
    :param option: what to shorten if it has more, e.g. ``--name``.
    """

    role: str
    owner: str
    pattern: str
    allowed: str
    longest: int
    option: str

    def matches(self, name: str) -> bool:
        """Return whether a name has the right characters, however long it is.

        :param name: the name.
        """
        return re.fullmatch(self.pattern, name) is not None

    def check(self, name: str, flow: str) -> None:
        """Check a name.

        :param name: the name.
        :param flow: flow to name in an error.
        :raises InvalidOptionError: naming the rule.
        """
        if not self.matches(name):
            raise InvalidOptionError(f"{name!r} cannot be {self.role}.", flow=flow, hint=f"Use {self.allowed}.")
        if len(name) > self.longest:
            raise InvalidOptionError(
                f"the name {name!r} has {len(name)} characters; {self.owner} may have {self.longest}.",
                flow=flow,
                hint=f"Choose a shorter {self.option}.",
            )


DAG_ID = NameRule(
    role="a DAG id",
    owner="a DAG id",
    pattern=r"[A-Za-z0-9_.-]+",
    allowed="letters, digits, dashes, dots and underscores only",
    longest=250,
    option="--name or branch",
)
"""Its length is that of ``airflow.models.dag``: ID_LEN."""


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
    DAG_ID.check(name, flow_name)


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
