"""A whole state machine, and what holds for it: its names are unique, every state is reached and leads somewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metaflow_orchestration.exceptions import InvalidOptionError

from .asl import Definition, MachineFields
from .states import MAX_NAME, Scope

if TYPE_CHECKING:
    from typing_extensions import Unpack


def machine_of(scope: Scope, flow: str, **fields: Unpack[MachineFields]) -> Definition:
    """Return a definition.

    :param scope: the states.
    :param flow: flow to name in an error.
    :param fields: further fields of the definition, e.g. ``Comment``.
    :raises InvalidOptionError: if AWS would refuse it.
    """
    names: set[str] = set()
    for state in scope.all_states():
        if len(state.name) > MAX_NAME or state.name in names:
            what = "stands twice in" if state.name in names else f"has over {MAX_NAME} characters in"
            raise InvalidOptionError(
                f"the state {state.name!r} {what} its state machine.", flow=flow, hint="Rename the step."
            )
        names.add(state.name)
    _check_ways(scope, flow)
    return {"QueryLanguage": "JSONata", **fields, **scope.to_asl()}


def _check_ways(scope: Scope, flow: str) -> None:
    """Check that each state of a scope is reached from its start, and leads to states of the scope."""
    known = {state.name: state for state in scope.states}
    reached: set[str] = set()
    waiting = [scope.start]
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        if name not in known:
            raise InvalidOptionError(
                f"its state machine leads to {name!r}, which is no state of that scope.", flow=flow
            )
        reached.add(name)
        waiting.extend(known[name].targets())
    lost = sorted(set(known) - reached)
    if lost:
        raise InvalidOptionError(f"its state machine never comes to the state {lost[0]!r}.", flow=flow)
    for state in scope.states:
        for inner in state.scopes():
            _check_ways(inner, flow)
