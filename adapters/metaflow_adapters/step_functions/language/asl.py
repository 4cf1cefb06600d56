"""The Amazon States Language as JSON (https://states-language.net/spec.html): the fields that our machines use."""

from __future__ import annotations

from typing import Any, TypedDict

Json = Any
"""A value of JSON whose texts may be expressions: input and output of states, arguments of services, variables."""


class RetrierFields(TypedDict, total=False):
    """One entry of ``Retry``."""

    ErrorEquals: list[str]
    IntervalSeconds: int
    MaxAttempts: int
    BackoffRate: float
    MaxDelaySeconds: int
    JitterStrategy: str


class CatcherFields(TypedDict, total=False):
    """One entry of ``Catch``."""

    ErrorEquals: list[str]
    Next: str
    Output: Json


class ChoiceFields(TypedDict):
    """One entry of ``Choices``."""

    Condition: str
    Next: str


class _StateType(TypedDict):
    Type: str


class StateFields(_StateType, total=False):
    """A state; which fields it has depends on its type."""

    Resource: str
    Arguments: Json
    Retry: list[RetrierFields]
    Catch: list[CatcherFields]
    Seconds: int
    Choices: list[ChoiceFields]
    Default: str
    Error: str
    Cause: str
    Branches: list[ScopeFields]
    Items: str
    ItemSelector: Json
    MaxConcurrency: int
    Label: str
    ItemProcessor: ProcessorFields
    Assign: dict[str, Json]
    Output: Json
    Next: str
    End: bool


class ScopeFields(TypedDict):
    """States that may lead to each other, and the first of them."""

    StartAt: str
    States: dict[str, StateFields]


class ProcessorFields(ScopeFields):
    """The scope of a map."""

    ProcessorConfig: dict[str, str]


class MachineFields(TypedDict, total=False):
    """What is said of a whole machine besides its states."""

    Comment: str
    TimeoutSeconds: int


class Definition(ScopeFields, MachineFields):
    """A whole machine."""

    QueryLanguage: str
