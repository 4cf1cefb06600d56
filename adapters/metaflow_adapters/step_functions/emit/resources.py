"""What a deployment is made of besides its state machine, in the words of AWS's API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

from metaflow_adapters.step_functions.language.asl import Definition
from metaflow_orchestration.containers.objects import BatchObject

Conditions = dict[str, dict[str, str | list[str]]]
"""Condition of a statement: values by operator and key (IAM user guide, "JSON policy elements: Condition")."""


class _Allowed(TypedDict):
    Sid: str
    Effect: str
    Action: list[str]
    Resource: list[str]


class Statement(_Allowed, total=False):
    """A statement of a policy (IAM user guide, "JSON policy elements reference")."""

    Condition: Conditions


Statements = list[Statement]


class PolicyDocument(TypedDict):
    """A policy of IAM."""

    Version: str
    Statement: Statements


_PatternHead = TypedDict("_PatternHead", {"source": list[str], "detail-type": list[str]})


class EventPattern(_PatternHead, total=False):
    """Which events a rule is about (EventBridge user guide, "Event patterns")."""

    detail: dict[str, list[str]]


class RuleTarget(TypedDict, total=False):
    """What a rule starts, an entry of ``Targets`` of ``PutTargets``."""

    Id: str
    Arn: str
    RoleArn: str
    Input: str


class Rule(TypedDict, total=False):
    """A rule of EventBridge: the fields of ``PutRule``, and its ``Targets``."""

    Name: str
    EventPattern: str
    ScheduleExpression: str
    State: str
    Description: str
    RoleArn: str
    Targets: list[RuleTarget]


class ScheduleTarget(TypedDict):
    """What a schedule starts."""

    Arn: str
    RoleArn: str
    Input: str


class ScheduleFields(TypedDict):
    """A schedule of EventBridge Scheduler, as ``CreateSchedule`` takes it."""

    Name: str
    ScheduleExpression: str
    ScheduleExpressionTimezone: str
    FlexibleTimeWindow: dict[str, str]
    State: str
    Description: str
    Target: ScheduleTarget


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a deployment is made of besides its state machine, in the words of AWS's API.

    :param job_definitions: for ``RegisterJobDefinition``.
    :param state_machines: definitions of helping state machines, by name.
    :param schedules: for ``CreateSchedule``.
    :param rules: for ``PutRule`` and ``PutTargets``: ``Name``, ``EventPattern``, ``Targets``.
    :param policies: least-privilege policy documents, by the role that needs them; ``deployer`` is who deploys (and
        ``deployer_2``, where one policy of IAM cannot hold it).
    :param uploads: content of objects that must be in S3, by URL.
    """

    job_definitions: tuple[BatchObject, ...]
    state_machines: Mapping[str, Definition]
    schedules: tuple[ScheduleFields, ...]
    rules: tuple[Rule, ...]
    policies: Mapping[str, PolicyDocument]
    uploads: Mapping[str, bytes]
