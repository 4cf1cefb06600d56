"""Makes the sensors that a flow waits for before it starts, on today's Airflow providers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, BaseOperator, TaskGroup

from airflow_provider_metaflow.formats import Arguments
from metaflow_orchestration.exceptions import MissingExtraError
from metaflow_orchestration.graph.model import FlowGraph, Sensor, SensorKind

_SECONDS = ("execution_delta",)


def make_sensors(graph: FlowGraph, *, dag: DAG, task_group: TaskGroup | None) -> list[BaseOperator]:
    """Make the sensors of a flow.

    :param graph: the flow.
    :param dag: the DAG.
    :param task_group: group to make them in.
    :raises MissingExtraError: if the provider of a sensor is not installed.
    """
    return list(_sensors(graph, dag, task_group))


def _sensors(graph: FlowGraph, dag: DAG, task_group: TaskGroup | None) -> Iterator[BaseOperator]:
    for sensor in graph.sensors:
        operator = _operator(graph, sensor)
        yield operator(task_id=sensor.name, dag=dag, task_group=task_group, **_arguments(sensor))


def _arguments(sensor: Sensor) -> Arguments:
    arguments = {
        name: timedelta(seconds=value) if name in _SECONDS else value for name, value in sensor.arguments.items()
    }
    if "description" in arguments:
        arguments["doc"] = arguments.pop("description")
    return arguments


def _operator(graph: FlowGraph, sensor: Sensor) -> Any:
    try:
        if sensor.kind is SensorKind.EXTERNAL_TASK:
            from airflow.providers.standard.sensors.external_task import ExternalTaskSensor

            return ExternalTaskSensor
        from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor
    except ImportError as error:
        raise MissingExtraError(
            f"its sensor {sensor.name} needs a provider that is not installed ({error.name}).",
            flow=graph.name,
            hint='pip install "airflow-provider-metaflow[airflow-amazon]"',
        ) from None
    return S3KeySensor
