"""Who may change a deployment that its orchestrator holds, and under which token; the rules of Metaflow's deployers."""

from __future__ import annotations

from typing import Any

from metaflow_orchestration.compile.deployment.names import Name
from metaflow_orchestration.compile.deployment.tokens import PLACEHOLDER_TOKEN, Store, TokenOptions, resolve_token
from metaflow_orchestration.exceptions import InvalidOptionError

__all__ = ["PLACEHOLDER_TOKEN", "check_content", "check_owner", "token_for"]


def token_for(obj: Any, name: Name, options: TokenOptions, store: Store | None) -> str:
    """Return the production token of a deployment.

    :param obj: state of Metaflow's command line.
    :param name: name of the deployment.
    :param options: what the user asked for.
    :param store: where it is deployed; None where nothing is deployed, which needs no token.
    """
    if store is not None:
        return resolve_token(obj, name, options, store)
    return (options.given or "").removeprefix("production:") or PLACEHOLDER_TOKEN


def check_content(what: str, name: str, flow: str, *, is_flow: bool, held: str | None) -> None:
    """Check that a name is free for a flow, or held by it.

    :param what: what there is of that name, e.g. ``state machine``.
    :param name: the name.
    :param flow: the flow that is to be deployed.
    :param is_flow: whether what there is was made from a Metaflow flow.
    :param held: name of that flow, None if it is not known.
    :raises InvalidOptionError: if something else has the name.
    """
    if is_flow and held in (None, flow):
        return
    problem = (
        f"the {what} {name!r} holds another flow, {held!r}."
        if is_flow
        else f"there is a {what} {name!r} that was not made from a Metaflow flow."
    )
    raise InvalidOptionError(problem, flow=flow, hint="Choose another --name, or delete it first.")


def check_owner(flow: str, whose: str, *, user: str, token: str | None, owner: str | None, owned: str | None) -> None:
    """Check that somebody may change a deployment: who deployed it, or who has its token.

    :param flow: flow to name in an error.
    :param whose: beginning of the error, e.g. ``Flow was deployed by``.
    :param user: who asks.
    :param token: production token that they have.
    :param owner: who deployed it.
    :param owned: its production token.
    :raises InvalidOptionError: if it is somebody else's.
    """
    if user == owner or (token is not None and token == owned):
        return
    raise InvalidOptionError(
        f"{whose} the user {owner}.",
        flow=flow,
        hint="Ask them for its production token, and give it by --authorize TOKEN.",
    )
