"""The state machine that gathers events until all that a flow waits for have come.

EventBridge knows no AND. Each event is kept as an object of the datastore; the machine that finds all of them there
claims them by an object that can be made only once, starts the flow, and forgets them. An event that comes again before
replaces the one kept, as with Argo Events.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from metaflow_adapters.step_functions.language.asl import Definition, Json
from metaflow_adapters.step_functions.language.definition import machine_of
from metaflow_adapters.step_functions.language.jsonata import evaluated, quoted, text
from metaflow_adapters.step_functions.language.retries import Catcher, Retrier
from metaflow_adapters.step_functions.language.states import Choice, Scope, State, Succeed, Task
from metaflow_adapters.step_functions.settings import Place
from metaflow_orchestration.graph.model import FlowGraph

from .events import finished_machine
from .submission import ANY_FAILURE, service

RESET = {"reset": True}
"""Input that makes the machine forget the events that have come."""

_PATIENT = (Retrier(errors=ANY_FAILURE),)
_ABSENT = ("S3.NoSuchKeyException", "S3.NoSuchKey")
_WAITING = "wait for more events"
_SAVE = "save event"
_CLAIM = "claim events"
_READ_CLAIM = "read claim"
_COMPARE_CLAIM = "check claim"
_CLAIM_AGAIN = "claim events again"
_START = "start run"
_EXECUTION = "$states.context.Execution.Id"


def gate_definition(
    graph: FlowGraph, *, machine_arn: str, bucket: str, prefix: str, place: Place, name_prefix: str | None
) -> Definition:
    """Return the definition of the machine.

    :param graph: the flow.
    :param machine_arn: the flow's state machine.
    :param bucket: bucket of the datastore.
    :param prefix: key that begins all that is kept.
    :param place: where in AWS.
    :param name_prefix: prefix of the installation's state machines.
    """
    names = {
        place.machine(finished_machine(one, name_prefix)) if one.of_run else one.event: str(number)
        for number, one in enumerate(graph.triggers)
    }
    gate = _Gate(bucket, prefix, place.partition, list(names.values()))
    states = [gate.keep(names), *gate.gather(machine_arn), *gate.forget(), Succeed(name=_WAITING)]
    start = _SAVE
    if graph.trigger_reset is not None:
        choice = Choice(
            name="check for reset",
            rules=((evaluated("$exists($states.input.reset)"), _name("discard", "0")),),
            default=_SAVE,
        )
        states, start = [choice, *gate.drop(), *states], choice.name
    comment = f"Gathers the events that the Metaflow flow {graph.name} waits for."
    return machine_of(Scope(start=start, states=tuple(states)), graph.name, Comment=comment)


def _name(what: str, slot: str) -> str:
    """Return the name of a state for one of the events."""
    return f"{what} event {slot}"


class _Gate:
    def __init__(self, bucket: str, prefix: str, partition: str, slots: list[str]) -> None:
        self._bucket, self._prefix, self._partition, self._slots = bucket, prefix, partition, slots

    def _s3(self, name: str, action: str, key: str, following: str | None, **fields: Any) -> Task:
        arguments = {"Bucket": self._bucket, "Key": key, **fields.pop("arguments", {})}
        resource = service(self._partition, f"aws-sdk:s3:{action}")
        fields.setdefault("retry", _PATIENT)
        return Task(name=name, resource=resource, arguments=arguments, next=following, **fields)

    def _read(self, name: str, key: str, following: str, *, assign: dict[str, Json], absent: str) -> Task:
        """Return the state that reads an object; it is not tried again where there is none."""
        retry = (Retrier(errors=_ABSENT, max_attempts=0), *_PATIENT)
        catch = (Catcher(errors=_ABSENT, next=absent),)
        return self._s3(name, "getObject", key, following, assign=assign, catch=catch, retry=retry)

    def _key(self, slot: str) -> str:
        return f"{self._prefix}{slot}"

    def keep(self, names: dict[str, str]) -> Task:
        event = "$states.input"
        name = f"({event}.source='aws.states'?{event}.detail.stateMachineArn:{event}.'detail-type')"
        key = evaluated(f"{text(self._prefix)} & $lookup({quoted(names)},{name})")
        # An object, which S3 gets as JSON.
        body = {"Body": evaluated(event)}
        return self._s3(_SAVE, "putObject", key, _name("find", self._slots[0]), arguments=body)

    def gather(self, machine_arn: str) -> Iterator[State]:
        following = [*(_name("find", slot) for slot in self._slots[1:]), _CLAIM]
        for slot, after in zip(self._slots, following, strict=True):
            found = {f"e{slot}": evaluated("$states.result.Body"), f"t{slot}": evaluated("$states.result.ETag")}
            yield self._read(_name("find", slot), self._key(slot), after, assign=found, absent=_WAITING)
        yield from self.claim()
        parsed = ",".join(f"$parse($e{slot})" for slot in self._slots)
        yield Task(
            name=_START,
            resource=service(self._partition, "states:startExecution"),
            arguments={"StateMachineArn": machine_arn, "Input": {"Events": evaluated(f"[{parsed}]")}},
            retry=_PATIENT,
            next=_name("delete", self._slots[0]),
        )

    def claim(self) -> Iterator[State]:
        """Claim the events for this execution, or leave them to the one that has claimed them.

        A claim that failed says by no name of an error whether another execution was first: S3's SDK has one name for
        a condition that does not hold, a missing permission and a request that was throttled, and a claim whose answer
        was lost fails when it is made again. So the claim holds its execution and is read. One that is not there is
        made again; if that fails, too, so does the execution: the events are kept, and a redrive claims them.
        """
        all_events = " & ".join(f"$e{slot}" for slot in self._slots)
        key = evaluated(f"{text(self._prefix + 'claims/')} & $hash({all_events},'SHA-256')")
        # An object, which S3 gets as JSON.
        claim = {"Body": {"execution": evaluated(_EXECUTION)}, "IfNoneMatch": "*"}
        failed = Catcher(errors=ANY_FAILURE, next=_READ_CLAIM)
        yield self._s3(_CLAIM, "putObject", key, _START, arguments=claim, catch=(failed,), retry=())
        owner = {"owner": evaluated("$parse($states.result.Body).execution")}
        yield self._read(_READ_CLAIM, key, _COMPARE_CLAIM, assign=owner, absent=_CLAIM_AGAIN)
        rules = ((evaluated(f"$owner = {_EXECUTION}"), _START),)
        yield Choice(name=_COMPARE_CLAIM, rules=rules, default=_WAITING)
        yield self._s3(_CLAIM_AGAIN, "putObject", key, _START, arguments=claim)

    def forget(self) -> Iterator[State]:
        """Forget what was handed on; an event that has come meanwhile stays."""
        for slot, after in self._in_order("delete"):
            matches = {"IfMatch": evaluated(f"$t{slot}")}
            newer = (Catcher(errors=ANY_FAILURE, next=after or _WAITING),)
            yield self._s3(
                _name("delete", slot), "deleteObject", self._key(slot), after, arguments=matches, catch=newer, retry=()
            )

    def drop(self) -> Iterator[State]:
        for slot, after in self._in_order("discard"):
            yield self._s3(_name("discard", slot), "deleteObject", self._key(slot), after)

    def _in_order(self, what: str) -> Iterator[tuple[str, str | None]]:
        following: list[str | None] = [_name(what, slot) for slot in self._slots[1:]]
        yield from zip(self._slots, [*following, None], strict=True)
