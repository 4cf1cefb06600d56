"""What a task that starts a run keeps of it, so that its next try waits for the same run instead of starting another.

Airflow keeps it from 3.3 on, where ``ResumableJobMixin`` does the same for operators that do not defer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Context

_KEY = "metaflow_run"
_OF_USE = ("queued", "running", "success")


def earlier_run(operator: Any, context: Context) -> dict[str, Any]:
    """Return what an earlier try, since the last clear, has kept of the run that it started.

    :param operator: the operator, with ``deployment`` and ``impl``.
    :param context: Airflow's task context.
    """
    store: Any = context.get("task_state_store")
    ti: Any = context["ti"]
    kept = store.get(_KEY) if store is not None and ti.try_number > 1 else None
    if not isinstance(kept, dict):
        return {}
    own = _identity(operator, context)
    return kept if {name: kept.get(name) for name in own} == own else {}


def keep_run(operator: Any, context: Context, **facts: str) -> None:
    """Keep the run that this try starts.

    :param operator: the operator, with ``deployment`` and ``impl``.
    :param context: Airflow's task context.
    :param facts: which run it is.
    """
    store: Any = context.get("task_state_store")
    if store is not None:
        store.set(_KEY, {**_identity(operator, context), **facts})


def _identity(operator: Any, context: Context) -> dict[str, Any]:
    """Return what a run that was started may be waited for again by.

    Airflow counts the clears of a DAG run, not of a task, and a task that is cleared while it runs is granted no more
    tries than before. So after a clear of any task the next try starts another run: whatever is in doubt runs again.
    """
    # Not above, since every parse of a DAG file with a run operator imports this module.
    from .run_identity import facts_of

    facts = facts_of(context["dag_run"])
    return {
        "deployment": operator.deployment,
        "impl": operator.impl,
        "started": facts.started,
        "clears": facts.clears,
    }


def is_of_use(ti: Any, dag_id: str, dag_run_id: str) -> bool:
    """Return whether a DAG run is there and has not failed.

    :param ti: the task instance, which asks Airflow.
    :param dag_id: the DAG.
    :param dag_run_id: its run; "None" if there is none.
    """
    from airflow.sdk.exceptions import AirflowRuntimeError

    if dag_run_id == "None":
        return False
    try:
        return _text(ti.get_dagrun_state(dag_id, dag_run_id)) in _OF_USE
    except AirflowRuntimeError:
        return False


def returned_pathspec(ti: Any, dag_id: str, dag_run_id: str, supposed: str) -> str | None:
    """Return ``Flow/run`` as the end step of a run has returned it, None if it has not.

    :param ti: the task instance, which asks Airflow.
    :param dag_id: the DAG of the flow.
    :param dag_run_id: its run.
    :param supposed: pathspec with the right run and, it may be, another flow.
    """
    from airflow.sdk.exceptions import AirflowRuntimeError

    pattern = re.compile(rf"[A-Za-z_]\w*/{re.escape(supposed.partition('/')[2])}")
    try:
        tasks = [one["task_id"] for one in ti.get_task_breadcrumbs(dag_id, dag_run_id) if _is_step(one)]
        for task in reversed(tasks):
            value = ti.xcom_pull(dag_id=dag_id, run_id=dag_run_id, task_ids=task)
            if isinstance(value, str) and pattern.fullmatch(value):
                return value
    except (AirflowRuntimeError, AttributeError, KeyError):
        # The run has ended as it has, whatever Airflow tells of its tasks.
        return None
    return None


def _is_step(task: Mapping[str, Any]) -> bool:
    return task.get("operator") == "MetaflowStepOperator" and _text(task.get("state")) == "success"


def _text(state: Any) -> str:
    return str(getattr(state, "value", state))
