"""Keeps the variables of a task from the flows that its step starts by `Runner`, `Deployer` or a command line.

They say which flow, run and task a process is: a child would take the configs and code package of its parent for its
own, run in the production namespace and overwrite what the orchestrator must learn of the parent.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_NAMES = frozenset(
    {
        "METAFLOW_FLOW_CONFIG_VALUE",
        "METAFLOW_FLOW_FILENAME",
        "METAFLOW_FLOW_NAME",
        "METAFLOW_OWNER",
        "METAFLOW_PRODUCTION_TOKEN",
        "METAFLOW_RETRY_COUNT",
        "METAFLOW_RUN_ID",
        "METAFLOW_STEP_NAME",
        "METAFLOW_TASK_ID",
        "METAFLOW_VERSION",
    }
)
"""And not ``METAFLOW_RUNTIME_ENVIRONMENT``, for which steps ask: where a process is, its children are, too."""

_PREFIXES = ("METAFLOW_ORCHESTRATOR_", "METAFLOW_CODE_")


def keep_from_children(decorator: Any) -> None:
    """Hide the variables of the task from the environment while the code of its step runs, and only then.

    :param decorator: the first decorator of the step: what it wraps is the step's own function, inside of what others
        put around it, e.g. the processes of a local gang, which need the variables.
    """
    name = "task_decorate" if getattr(decorator, "task_decorate_ctx", None) is None else "task_decorate_ctx"
    wrap = getattr(decorator, name, None)
    if wrap is None:  # a decorator of somebody else that wraps nothing
        return
    # The function of the step is the first argument of the one and the second of the other.
    position = 0 if name == "task_decorate" else 1

    def wrapped(*given: Any) -> Any:
        arguments = list(given)
        arguments[position] = _hiding(arguments[position])
        return wrap(*arguments)

    setattr(decorator, name, wrapped)


def _hiding(step_function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(step_function)
    def run(*given: Any) -> Any:
        with _hidden():
            return step_function(*given)

    return run


@contextmanager
def _hidden() -> Iterator[None]:
    from metaflow.client import get_namespace

    # Metaflow's client asks the environment for it when it is first used.
    get_namespace()
    own = {name: value for name, value in os.environ.items() if name in _NAMES or name.startswith(_PREFIXES)}
    for name in own:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(own)
