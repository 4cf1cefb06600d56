"""Names on AWS, by the rules of Metaflow's own deployer, so that either finds what the other has deployed."""

from __future__ import annotations

import base64
import hashlib
import re

from metaflow_orchestration.compile.deployment.names import Name, named, refuse_name_of_project
from metaflow_orchestration.graph.naming import NameRule

MAX_NAME = 80
"""Longest name of a state machine (Step Functions, service quotas)."""

MAX_HELPER_NAME = 64
"""Longest name of a rule or schedule (EventBridge, service quotas)."""

HELPERS = ("events", "after")
"""What the state machines that help a deployment are for."""

SCHEDULES = ("", "reset")
"""What the schedules of a deployment are for; the first starts its runs."""

DEPLOYMENT_TAG = "metaflow-state-machine"
"""Tag of a job, and parameter of a job definition, with the state machine that it was made for."""

UNKNOWN_SECRET = "${NotifySecretArn}"  # noqa: S105  (a placeholder)
"""Stands for the ARN of the secret of a deployment until it is made."""

MAX_RULES = 20
"""How many numbered rules are looked for when a deployment is changed or deleted."""

_PROJECT_CUT = 60
_RULE_CUT = 47
_INVALID = re.compile(r"[^A-Za-z0-9_.-]")

MACHINE_NAME = NameRule(
    role="the name of a state machine",
    owner="a state machine",
    pattern=r"[A-Za-z0-9_.-]+",
    allowed="letters, digits, dashes, dots and underscores only",
    longest=MAX_NAME,
    option="one with `sfn --name`",
)


def prefixed(name: str, prefix: str | None) -> str:
    """Return a name with the prefix of the installation (``METAFLOW_SFN_STATE_MACHINE_PREFIX``).

    :param name: the name.
    :param prefix: the prefix.
    """
    return name if prefix is None or name.startswith(prefix) else f"{prefix}_{name}"


def cut(name: str, limit: int, keep: int) -> str:
    """Return a name that is no longer than a limit, with a hash of all of it where it was cut.

    :param name: the name.
    :param limit: longest name that stays as it is.
    :param keep: how much of a longer one stays.
    """
    if len(name) <= limit:
        return name
    return f"{name[:keep]}-{_hash(name)}"


def project_name(full: str) -> str:
    """Return the name of a ``@project``'s state machine.

    :param full: ``project.branch.Flow``, with the prefix.
    """
    return cut(_INVALID.sub("", full), _PROJECT_CUT, _PROJECT_CUT)


def helper_name(name: str, what: str = "") -> str:
    """Return the name of a schedule or rule of a deployment; without a second word, that of the stock deployer's rule.

    :param name: name of the state machine.
    :param what: what it is for.
    """
    suffix = f"-{what}" if what else ""
    return cut(name, MAX_HELPER_NAME - len(suffix), _RULE_CUT - len(suffix)) + suffix


def machine_helper_name(name: str, what: str) -> str:
    """Return the name of a helping state machine of a deployment.

    :param name: name of the state machine.
    :param what: what it is for.
    """
    suffix = f"-{what}"
    return cut(name, MAX_NAME - len(suffix), _PROJECT_CUT - len(suffix)) + suffix


def secret_name(machine: str) -> str:
    """Return the name of the secret with the addresses and keys of a deployment's endpoints.

    :param machine: name of the state machine.
    """
    return f"{machine}-notify"


def _hash(text: str) -> str:
    digest = hashlib.sha1(text.encode(), usedforsecurity=False).digest()
    return base64.b32encode(digest).decode()[:16].lower()


def sfn_name(flow: str, given: str | None, prefix: str | None) -> Name:
    """Return under which name the flow of a Metaflow command line is deployed.

    :param flow: name of the flow.
    :param given: ``--name``.
    :param prefix: prefix of the installation.
    :raises InvalidOptionError: if the name is not allowed.
    """
    from metaflow import current

    refuse_name_of_project(flow, given)
    if current.get("project_name"):
        return named(project_name(prefixed(current.project_flow_name, prefix)))
    name = prefixed(given or flow, prefix)
    MACHINE_NAME.check(name, flow)
    return named(name)
