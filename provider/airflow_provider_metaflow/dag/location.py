"""Where relative paths of a DAG file start."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

from airflow_provider_metaflow._compat import DagContext


def dag_folder(caller: str) -> Path:
    """Return the folder of the DAG file that Airflow reads now, which may call us through a helper module of its own.

    :param caller: the file that called us; the DAG file itself when no Airflow reads it, as in ``python dag.py``.
    """
    module = sys.modules.get(DagContext.current_autoregister_module_name or "")
    return Path(getattr(module, "__file__", None) or caller).parent


def resolved(path: str | Path, caller: str) -> Path:
    """Return a path of a DAG file: beside that, else beside the module that called us, else in the current folder.

    :param path: the path.
    :param caller: the file that called us.
    """
    path = Path(path)
    places = (dag_folder(caller) / path, Path(caller).parent / path, path.absolute())
    found = next((one for one in places if one.exists()), places[0])
    if found.exists():
        return found
    from .zipped import unzipped

    return unzipped(found)


def runs_a_task() -> bool:
    """Return whether Airflow reads a DAG file in this process to run one of its tasks.

    It does so in ``parse`` of ``airflow.sdk.execution_time.task_runner`` (Airflow 3.0 to 3.3).
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") == "airflow.sdk.execution_time.task_runner" or (
            frame.f_code.co_filename.endswith("execution_time/task_runner.py")
        ):
            return True
        frame = frame.f_back
    return False


def dag_of_task() -> str | None:
    """Return the DAG of the task for which Airflow reads a DAG file in this process; None elsewhere."""
    if not runs_a_task():
        return None
    from airflow.sdk import get_parsing_context

    return get_parsing_context().dag_id
