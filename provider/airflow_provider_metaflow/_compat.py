"""The only module that tells releases of Airflow apart, and that imports private names of Airflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow import __version__

_RELEASE = tuple(int(part) for part in __version__.split(".")[:2])
AIRFLOW_V_3_2_PLUS = _RELEASE >= (3, 2)
AIRFLOW_V_3_3_PLUS = _RELEASE >= (3, 3)

if TYPE_CHECKING:
    from airflow.sdk.definitions._internal.contextmanager import DagContext, TaskGroupContext

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
    module = since_3_2 if AIRFLOW_V_3_2_PLUS else before
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise _lacking(f"Airflow {__version__}", f"{name} in {module}") from error


def require_methods(of: type, *names: str) -> None:
    """See that a class of a provider has the private methods that ours overrides or calls.

    A method that is overridden and that nobody calls any more would be passed over in silence.

    :param of: the class.
    :param names: names of methods.
    :raises ImportError: if it lacks one.
    """
    for name in names:
        if not callable(getattr(of, name, None)):
            raise _lacking(f"the installed {of.__module__}", f"{of.__name__}.{name}")


def _lacking(what: str, name: str) -> ImportError:
    return ImportError(
        f"{what} has no {name}, which this release of airflow-provider-metaflow needs. Install a newer release of it, "
        "or the releases of the table in its documentation, Compatibility."
    )


_CONTEXTS = "airflow.sdk.definitions._internal.contextmanager"
_TASK_RUNNER = "airflow.sdk.execution_time.task_runner"
_MOVED = {
    "AssetOrTimeSchedule": ("airflow.timetables.assets", "airflow.sdk"),
    "DagBag": ("airflow.models.dagbag", "airflow.dag_processing.dagbag"),
    # Private: the DAG and the group of a `with` block.
    "DagContext": (_CONTEXTS, _CONTEXTS),
    "TaskGroupContext": (_CONTEXTS, _CONTEXTS),
    # Private: how a task asks its supervisor, which asks Airflow with the rights of the task.
    "SUPERVISOR_COMMS": (_TASK_RUNNER, _TASK_RUNNER),
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
    "DagContext",
    "TaskDeferred",
    "TaskGroupContext",
    "conf",
]
