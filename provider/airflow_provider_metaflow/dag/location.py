"""Where relative paths of a DAG file start."""

from __future__ import annotations

import sys
from pathlib import Path

from airflow.sdk.definitions._internal.contextmanager import DagContext


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
    if path.is_absolute():
        return path
    folder = dag_folder(caller)
    places = (folder / path, Path(caller).parent / path, path.absolute())
    return next((one for one in places if one.exists()), places[0])
