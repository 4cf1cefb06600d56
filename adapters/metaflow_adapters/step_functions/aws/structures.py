"""Structures of AWS's APIs as boto3 takes and returns them: the fields that we read and write.

Their meaning is in the API references of Step Functions, AWS Batch and IAM.
"""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict

from metaflow_orchestration.containers.objects import BatchObject


class LoggingConfiguration(TypedDict, total=False):
    """Whether and where the history of executions is logged."""

    level: str
    includeExecutionData: bool
    destinations: list[dict[str, dict[str, str]]]


class MachineSettings(TypedDict, total=False):
    """What ``CreateStateMachine`` and ``UpdateStateMachine`` take."""

    definition: str
    roleArn: str
    loggingConfiguration: LoggingConfiguration


class Machine(MachineSettings, total=False):
    """A state machine, as ``DescribeStateMachine`` returns it."""

    name: str
    stateMachineArn: str


class Execution(TypedDict, total=False):
    """An execution, as ``DescribeExecution`` and, in short, ``ListExecutions`` return it."""

    executionArn: str
    name: str
    status: str
    startDate: datetime
    stopDate: datetime
    input: str
    error: str
    cause: str
    redriveStatus: str
    redriveStatusReason: str


class StateDetails(TypedDict):
    """What the history says of a state that was entered."""

    name: str


class TaskDetails(TypedDict, total=False):
    """What the history says of a call of a service; which fields there are depends on the event."""

    resourceType: str
    resource: str
    parameters: str
    output: str


class MapRunDetails(TypedDict):
    """What the history says of a distributed map that was started."""

    mapRunArn: str


class _Event(TypedDict):
    id: int
    timestamp: datetime


class HistoryEvent(_Event, total=False):
    """An event of a history, as ``GetExecutionHistory`` returns it."""

    previousEventId: int
    stateEnteredEventDetails: StateDetails
    taskScheduledEventDetails: TaskDetails
    taskSubmittedEventDetails: TaskDetails
    taskSucceededEventDetails: TaskDetails
    taskFailedEventDetails: TaskDetails
    taskTimedOutEventDetails: TaskDetails
    mapRunStartedEventDetails: MapRunDetails
    mapRunRedrivenEventDetails: MapRunDetails


class RegisteredDefinition(TypedDict, total=False):
    """A job definition, as ``DescribeJobDefinitions`` returns it."""

    jobDefinitionName: str
    jobDefinitionArn: str
    revision: int
    parameters: dict[str, str]
    tags: dict[str, str]


class ComputeEnvironmentOrder(TypedDict):
    """Which compute environment a queue uses, and when."""

    order: int
    computeEnvironment: str


class JobQueue(TypedDict, total=False):
    """A job queue, as ``DescribeJobQueues`` returns it."""

    computeEnvironmentOrder: list[ComputeEnvironmentOrder]
    schedulingPolicyArn: str


class ArrayProperties(TypedDict, total=False):
    """How many children an array job has."""

    size: int


class ContainerDetail(TypedDict, total=False):
    """The container of a job, and where it logs to."""

    logStreamName: str
    logConfiguration: BatchObject | None


class AttemptDetail(TypedDict, total=False):
    """A try of a job that has ended."""

    container: ContainerDetail


class JobDetail(TypedDict, total=False):
    """A job, as ``DescribeJobs`` returns it."""

    jobId: str
    status: str
    arrayProperties: ArrayProperties
    nodeProperties: BatchObject
    container: ContainerDetail
    attempts: list[AttemptDetail]


class ContextEntry(TypedDict):
    """A value that a condition of a policy may look at."""

    ContextKeyName: str
    ContextKeyValues: list[str | list[str]]
    ContextKeyType: str


class _Simulation(TypedDict):
    PolicySourceArn: str
    ActionNames: list[str]
    ContextEntries: list[ContextEntry]


class Simulation(_Simulation, total=False):
    """What ``SimulatePrincipalPolicy`` takes."""

    ResourceArns: list[str]
