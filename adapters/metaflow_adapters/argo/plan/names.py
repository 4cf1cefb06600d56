"""Names on Argo Workflows: templates, tasks, and the workflow template itself."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator

from metaflow_orchestration.compile.deployment.names import Name, named, refuse_name_of_project
from metaflow_orchestration.graph.naming import NameRule

MAX_NAME = 45
"""Longest name of a workflow template: CronWorkflow names have at most 52 characters, sensors and services less
(``metaflow.plugins.argo.argo_workflows_cli``)."""

TEMPLATE_NAME = NameRule(
    role="the name of a workflow template",
    owner="a workflow template",
    pattern=r"[a-z]([a-z0-9.-]*[a-z0-9])?",
    allowed="lowercase letters, digits, dots and dashes; start with a letter, end with a letter or digit",
    longest=MAX_NAME,
    option="one with `argo --name`",
)
_PARTS = (("project", 12), ("branch", 14), ("flow", 11))


class Names:
    """Names of templates: alphanumeric characters and dashes only (Argo's ``validateWorkflowFieldNames``).

    :param prefix: what all names start with, for a flow that is a part of a user's workflow.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = f"{prefix}-" if prefix else ""
        self._taken: set[str] = set()

    def take(self, text: str) -> str:
        """Return a name that no other template has.

        :param text: what it is to be like, e.g. a step's name.
        """
        stem = self._prefix + dashed(text)
        name, number = stem, 2
        while name in self._taken:
            name, number = f"{stem}-{number}", number + 1
        self._taken.add(name)
        return name


def dashed(name: str) -> str:
    """Return a Python name as a name of Argo, which knows no underscores.

    :param name: name of a flow or step.
    """
    return name.replace("_", "-")


def deployed_name(flow: str, project: tuple[str, str] | None = None) -> str:
    """Return the name of a deployment that the user gave none.

    :param flow: name of the flow.
    :param project: project and branch of a ``@project``.
    :raises InvalidOptionError: if it is too long; that of a project is cut.
    """
    full = ".".join([*project, flow]) if project else flow
    name = _sanitized(full)
    if not TEMPLATE_NAME.matches(name):
        name = f"f{name}".rstrip(".-")
    if len(name) <= MAX_NAME:
        return name
    if project is not None:
        return _cut([*project, flow], full)
    TEMPLATE_NAME.check(name, flow)
    return name


def _cut(parts: Iterable[str], full: str) -> str:
    """Return a readable cut of project, branch and flow with a hash that makes it unique."""
    digest = hashlib.sha256(full.encode()).hexdigest()[:5]
    return ".".join([*_shortened(parts), digest])


def _shortened(parts: Iterable[str]) -> Iterator[str]:
    for part, (_, length) in zip(parts, _PARTS, strict=True):
        yield _sanitized(part)[:length].strip(".-") or "x"


def _sanitized(text: str) -> str:
    return re.sub(r"[_@+]", "", text.lower())


def argo_name(flow: str, given: str | None) -> Name:
    """Return under which name the flow of a Metaflow command line is deployed.

    :param flow: name of the flow.
    :param given: ``--name``.
    :raises InvalidOptionError: if the name is not allowed.
    """
    from metaflow import current

    refuse_name_of_project(flow, given)
    if given:
        TEMPLATE_NAME.check(given, flow)
        return named(given)
    project = current.get("project_name")
    return named(deployed_name(flow, (project, current.branch_name) if project else None))
