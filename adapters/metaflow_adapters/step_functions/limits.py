"""What a state machine costs, and where it comes near a quota of AWS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metaflow_adapters.step_functions.emit.job_states import INLINE_INPUT, INPUT, SHARED
from metaflow_adapters.step_functions.language.states import Choice, Fail, Map, Parallel, Scope, State, Task
from metaflow_orchestration.exceptions import InvalidOptionError

if TYPE_CHECKING:
    from .machine import FlowMachine

MAX_DEFINITION_BYTES = 1024 * 1024
MAX_EVENTS = 25_000
MAX_PAYLOAD_BYTES = 256 * 1024
MAX_SUBMISSION_BYTES = 30 * 1024
MAX_OVERRIDES_BYTES = 8192
MAX_JOB_DEFINITION_BYTES = 24 * 1024
MAX_ARRAY = 10_000
"""Quotas of Step Functions and AWS Batch (their developer guides, service quotas)."""

SUBMISSIONS_PER_SECOND = 50
"""How many jobs AWS Batch takes from an account (AWS Batch user guide, service quotas)."""

MANY_WORKERS = 1000
"""So many splits at a time submit their jobs in 20 seconds; more are tried again often."""

USD_PER_TRANSITION = 0.000025
"""Price of a state transition of a standard workflow in most regions (aws.amazon.com/step-functions/pricing)."""

_FILLED_IN = 1024
"""Bytes for run id and index path, which stand in a submission a few times."""

_EVENTS = {"Task": 6, "Choice": 2, "Map": 4, "Parallel": 4, "Succeed": 2, "Wait": 2}
"""Events of a state in the history: a task that waits for its job has six, a call of an API five at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a run costs.

    :param transitions: state transitions, those of distributed children too.
    :param events: events in the history of the execution itself.
    :param child_events: events in the longest history of a distributed child.
    """

    transitions: int
    events: int
    child_events: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            transitions=self.transitions + other.transitions,
            events=self.events + other.events,
            child_events=max(self.child_events, other.child_events),
        )


def check_limits(machine: FlowMachine) -> None:
    """Check what can be known when a flow is compiled.

    :param machine: the flow.
    :raises InvalidOptionError: naming the quota.
    """
    flow = machine.manifest.graph.name
    definitions = {machine.name: machine.to_json(), **machine.resources.state_machines}
    for name, definition in definitions.items():
        text = definition if isinstance(definition, str) else json.dumps(definition)
        size = len(text.encode())
        if size > MAX_DEFINITION_BYTES:
            raise InvalidOptionError(
                f"the definition of the state machine {name!r} has {size:,} bytes, and AWS allows "
                f"{MAX_DEFINITION_BYTES:,}.",
                flow=flow,
                hint="Divide the flow in two, the second started by @trigger_on_finish.",
            )
    for definition in machine.resources.job_definitions:
        size = len(json.dumps(definition).encode())
        if size > MAX_JOB_DEFINITION_BYTES:
            raise InvalidOptionError(
                f"the job definition {definition['jobDefinitionName']!r} has {size:,} bytes, and AWS Batch allows "
                f"{MAX_JOB_DEFINITION_BYTES:,}.",
                flow=flow,
                hint="Shorten the variables of @environment, or put large values into @secrets.",
            )
    _check_submissions(machine)
    cost = cost_of(machine.states, splits=1)
    if cost.events > MAX_EVENTS:
        raise InvalidOptionError(
            f"a run has at least {cost.events:,} events; AWS allows {MAX_EVENTS:,} in a history.",
            flow=flow,
            hint="Divide the flow in two, the second started by @trigger_on_finish.",
        )


def _check_submissions(machine: FlowMachine) -> None:
    """Check the sizes of what each state submits, with room for what it fills in when it runs."""
    tasks = [one for one in machine.states.all_states() if isinstance(one, Task)]
    shared = sum(len(json.dumps(one.assign[SHARED])) for one in tasks if SHARED in one.assign)
    for state in tasks:
        if "batch" not in state.resource or not state.arguments:
            continue
        arguments = state.arguments
        text = json.dumps(arguments)
        room = _FILLED_IN + (INLINE_INPUT if INPUT in text else 0) + (shared if f"${SHARED}" in text else 0)
        found = [("submission", arguments, MAX_SUBMISSION_BYTES)]
        if isinstance(arguments, dict) and "ContainerOverrides" in arguments:
            found.append(("container overrides", arguments["ContainerOverrides"], MAX_OVERRIDES_BYTES))
        for what, value, limit in found:
            size = len(json.dumps(value, ensure_ascii=False).encode()) + room
            if size > limit:
                raise InvalidOptionError(
                    f"the {what} of its job may have {size:,} bytes, and AWS Batch allows {limit:,}.",
                    flow=machine.manifest.graph.name,
                    step=state.name,
                    hint="Give the flow fewer parameters, or its jobs fewer or shorter tags.",
                )


def cost_of(scope: Scope, *, splits: int) -> Cost:
    """Return what a run of some states costs, every one of them run once and each foreach with as many splits.

    :param scope: the states.
    :param splits: splits of each foreach.
    """
    # The start of an execution is a transition of its own, and an event, as is its end.
    total = Cost(transitions=0, events=2, child_events=0)
    for state in _run_states(scope):
        total += _cost(state, splits)
    return total


def _run_states(scope: Scope) -> Iterator[State]:
    yield from (state for state in scope.states if not isinstance(state, Fail) and not state.rare)


def _cost(state: State, splits: int) -> Cost:
    kind = str(state.to_asl()["Type"]) if not isinstance(state, (Map, Parallel, Choice)) else type(state).__name__
    events = 5 if isinstance(state, Task) and "aws-sdk" in state.resource else _EVENTS.get(kind, 2)
    own = Cost(transitions=1, events=events, child_events=0)
    if isinstance(state, Parallel):
        for branch in state.branches:
            inner = cost_of(branch, splits=splits)
            own += Cost(transitions=inner.transitions, events=inner.events - 2, child_events=inner.child_events)
    if isinstance(state, Map):
        inner = cost_of(state.body, splits=splits)
        if state.distributed:
            own += Cost(
                transitions=splits * inner.transitions, events=0, child_events=max(inner.events, inner.child_events)
            )
        else:
            # Two events an iteration beside those of its states.
            own += Cost(
                transitions=splits * inner.transitions, events=splits * inner.events, child_events=inner.child_events
            )
    return own


def throttled(scope: Scope, splits: int) -> Iterator[tuple[str, int]]:
    """Yield the maps that may submit more jobs at a time than AWS Batch takes in a few seconds, and how many.

    :param scope: the states.
    :param splits: splits of each foreach.
    """
    for state in scope.all_states():
        if isinstance(state, Map) and state.distributed:
            at_a_time = min(state.max_concurrency or splits, splits)
            if at_a_time > MANY_WORKERS:
                yield state.name, at_a_time
