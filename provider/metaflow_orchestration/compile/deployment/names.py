"""Names of deployments. Imports Metaflow."""

from __future__ import annotations

from dataclasses import dataclass

from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.naming import check_name, project_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """The name of a deployment and what its production token starts with."""

    name: str
    token_prefix: str
    is_project: bool


def resolve_name(flow_name: str, given: str | None) -> Name:
    """Return under which name a flow is deployed, with the rules of Metaflow's other deployers.

    :param flow_name: name of the flow.
    :param given: ``--name``.
    :raises InvalidOptionError: if the name is not allowed.
    """
    from metaflow import current

    refuse_name_of_project(flow_name, given)
    name = project_name(current.project_flow_name) if current.get("project_name") else given or flow_name
    check_name(name, flow_name)
    return named(name)


def refuse_name_of_project(flow_name: str, given: str | None) -> None:
    """Check that no name is given to a ``@project``, whose branch names it.

    :param flow_name: flow to name in an error.
    :param given: ``--name``.
    :raises InvalidOptionError: if there is one.
    """
    from metaflow import current

    if current.get("project_name") and given:
        raise InvalidOptionError("--name is not supported for @projects.", flow=flow_name, hint="Use --branch instead.")


def named(name: str) -> Name:
    """Return a name with what its production token starts with; of a ``@project`` all flows share one token.

    :param name: name of the deployment.
    """
    import base64
    from hashlib import sha1

    from metaflow import current

    project = current.get("project_name")
    if not project:
        return Name(name=name, token_prefix=name.lower(), is_project=False)
    branch = f"{project}.{current.branch_name}".encode()
    digest = base64.b32encode(sha1(branch, usedforsecurity=False).digest()).decode()[:16]
    return Name(name=name, token_prefix=f"mfprj-{digest}".lower(), is_project=True)
