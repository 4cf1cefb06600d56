"""States of the Amazon States Language as frozen typed data, with JSONata as their query language.

Only what our machines are made of. Each state knows its own form (``to_asl``); ``definition.py`` checks what holds for
a whole machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from .asl import ChoiceFields, Json, ScopeFields, StateFields
from .retries import Catcher, Retrier

MAX_NAME = 80
"""Longest name of a state (Amazon States Language, "States")."""

MAX_LABEL = 40
"""Longest label of a distributed map (Step Functions developer guide, "Distributed mode")."""

INPUT = "{% $states.input %}"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What all states have.

    :param name: unique in the machine.
    :param rare: whether a run that has its way does not come here, so that it counts in no cost.
    """

    name: str
    rare: bool = False

    def to_asl(self) -> StateFields:
        """Return the state as JSON types."""
        raise NotImplementedError

    def targets(self) -> Iterator[str]:
        """Yield the names of the states that may follow."""
        yield from ()

    def scopes(self) -> Iterator[Scope]:
        """Yield the scopes inside."""
        yield from ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(State):
    """A state that goes on to one other state, or ends its scope.

    :param next: the state that follows; None ends the scope.
    :param output: what it hands on.
    :param assign: variables.
    """

    next: str | None
    output: Json = INPUT
    assign: dict[str, Json] = field(default_factory=dict)

    def targets(self) -> Iterator[str]:
        """Yield the names of the states that may follow."""
        if self.next is not None:
            yield self.next

    def _followed(self, own: StateFields) -> StateFields:
        """Return a state with what all states that go on have; its own fields come first."""
        if self.assign:
            own["Assign"] = self.assign
        own["Output"] = self.output
        if self.next is not None:
            own["Next"] = self.next
        else:
            own["End"] = True
        return own


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(Step):
    """Calls a service.

    :param resource: its name.
    :param arguments: arguments of the call, or one expression for all of them.
    :param retry: what is tried again.
    :param catch: what is caught.
    """

    resource: str
    arguments: Json
    retry: tuple[Retrier, ...] = ()
    catch: tuple[Catcher, ...] = ()

    def to_asl(self) -> StateFields:
        """Return the state as JSON types."""
        own: StateFields = {"Type": "Task", "Resource": self.resource, "Arguments": self.arguments}
        if self.retry:
            own["Retry"] = [one.to_asl() for one in self.retry]
        if self.catch:
            own["Catch"] = [one.to_asl() for one in self.catch]
        return self._followed(own)

    def targets(self) -> Iterator[str]:
        """Yield the names of the states that may follow."""
        yield from Step.targets(self)
        yield from (one.next for one in self.catch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait(Step):
    """Waits.

    :param seconds: how long.
    """

    seconds: int

    def to_asl(self) -> StateFields:
        """Return the state as JSON types."""
        return self._followed({"Type": "Wait", "Seconds": self.seconds})


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice(State):
    """Goes one of several ways.

    :param rules: pairs of a condition and the state that it leads to.
    :param default: where it goes if none holds.
    """

    rules: tuple[tuple[str, str], ...]
    default: str

    def to_asl(self) -> StateFields:
        """Return the state as JSON types."""
        choices: list[ChoiceFields] = [{"Condition": condition, "Next": target} for condition, target in self.rules]
        return {"Type": "Choice", "Choices": choices, "Default": self.default}

    def targets(self) -> Iterator[str]:
        """Yield the names of the states that may follow."""
        yield from (target for _, target in self.rules)
        yield self.default


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeed(State):
    """Ends its scope.

    :param output: what it hands on.
    """

    output: Json = field(default_factory=dict)

    def to_asl(self) -> StateFields:
        """Return the state as JSON types."""
        return {"Type": "Succeed", "Output": self.output}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail(State):
    """Fails the execution.

    :param error: name of the error.
    :param cause: what happened, as text or expression.
    """

    error: str
    cause: str

    def to_asl(self) -> StateFields:
        """Return the state as JSON types."""
        return {"Type": "Fail", "Error": self.error, "Cause": self.cause}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallel(Step):
    """Runs several scopes at a time.

    :param branches: the scopes.
    """

    branches: tuple[Scope, ...]

    def to_asl(self) -> StateFields:
        """Return the state as JSON types."""
        return self._followed({"Type": "Parallel", "Branches": [one.to_asl() for one in self.branches]})

    def scopes(self) -> Iterator[Scope]:
        """Yield the scopes inside."""
        yield from self.branches


@dataclass(frozen=True, slots=True, kw_only=True)
class Map(Step):
    """Runs a scope once for each item.

    :param items: expression for the list of items.
    :param selector: input of the scope.
    :param body: the scope.
    :param distributed: whether each item is an execution of its own, with a history of its own.
    :param max_concurrency: how many run at a time; None leaves it to AWS (40 inline, 10,000 distributed).
    :param label: what AWS calls the executions of a distributed map; one that it makes up if left out.
    """

    items: str
    selector: Json
    body: Scope
    distributed: bool
    max_concurrency: int | None = None
    label: str | None = None

    def to_asl(self) -> StateFields:
        """Return the state as JSON types."""
        mode = {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"} if self.distributed else {"Mode": "INLINE"}
        own: StateFields = {"Type": "Map", "Items": self.items, "ItemSelector": self.selector}
        if self.max_concurrency is not None:
            own["MaxConcurrency"] = self.max_concurrency
        if self.label is not None:
            own["Label"] = self.label
        own["ItemProcessor"] = {"ProcessorConfig": mode, **self.body.to_asl()}
        return self._followed(own)

    def scopes(self) -> Iterator[Scope]:
        """Yield the scopes inside."""
        yield self.body


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """States that may lead to each other: a machine, a branch, or the body of a map.

    :param start: name of the first.
    :param states: all of them.
    """

    start: str
    states: tuple[State, ...]

    def to_asl(self) -> ScopeFields:
        """Return the scope as JSON types."""
        return {"StartAt": self.start, "States": {one.name: one.to_asl() for one in self.states}}

    def all_states(self) -> Iterator[State]:
        """Yield all states, those of scopes inside too."""
        for state in self.states:
            yield state
            for scope in state.scopes():
                yield from scope.all_states()
