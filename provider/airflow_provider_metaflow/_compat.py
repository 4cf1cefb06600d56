"""What differs between the supported releases of Airflow; the only fork point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow import __version__

_RELEASE = tuple(int(part) for part in __version__.split(".")[:2])
AIRFLOW_V_3_2_PLUS = _RELEASE >= (3, 2)
AIRFLOW_V_3_3_PLUS = _RELEASE >= (3, 3)

if TYPE_CHECKING or AIRFLOW_V_3_2_PLUS:
    from airflow.sdk import conf
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, AirflowTaskTimeout, TaskDeferred
else:
    from airflow.configuration import conf
    from airflow.exceptions import AirflowFailException, AirflowSkipException, AirflowTaskTimeout, TaskDeferred


def __getattr__(name: str) -> Any:
    """Load what few need, when it is needed."""
    if name not in _MOVED:
        raise AttributeError(name)
    from importlib import import_module

    before, since_3_2 = _MOVED[name]
    return getattr(import_module(since_3_2 if AIRFLOW_V_3_2_PLUS else before), name)


_MOVED = {
    "AssetOrTimeSchedule": ("airflow.timetables.assets", "airflow.sdk"),
    "DagBag": ("airflow.models.dagbag", "airflow.dag_processing.dagbag"),
}


def serialize_dag(dag: Any) -> Any:
    """Serialize a DAG as the DAG processor does.

    :param dag: the DAG.
    """
    from airflow.serialization import serialized_objects

    return getattr(serialized_objects, "DagSerialization" if AIRFLOW_V_3_2_PLUS else "SerializedDAG").to_dict(dag)


__all__ = [
    "AIRFLOW_V_3_2_PLUS",
    "AIRFLOW_V_3_3_PLUS",
    "AirflowFailException",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "TaskDeferred",
    "conf",
]
