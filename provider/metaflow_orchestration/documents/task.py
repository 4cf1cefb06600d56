"""What a process that runs Metaflow tasks is asked for. The in-task code of the Metaflow extension reads it as JSON."""

from __future__ import annotations

from typing import Any

import msgspec

OutcomeDocument = dict[str, Any]
"""How a task ended, as the step decorator wrote it (``Outcome`` of the extension's ``task_documents.py``);
:meth:`~metaflow_orchestration.run.outcome.TaskOutcome.from_document` reads it. A deferred task instance keeps it in
Airflow's database as it is."""


class Inherited(msgspec.Struct, frozen=True, kw_only=True):
    """Where a resumed run has its parameters from.

    :param run: Metaflow run id of the run that it resumes.
    :param given: names of the parameters that it was given itself; all others are those of the other run.
    """

    run: str
    given: tuple[str, ...] = ()


FileFacts = dict[str, str | bool | None]
"""How the value of a file parameter is checked and stored: ``default``, ``is_text`` and ``encoding``."""


class InitRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is registered before the first task of a run.

    :param task_id: Metaflow task id of the run's parameters.
    :param arguments: arguments of Metaflow's ``init`` command.
    :param inherit: of a resumed run: where its other parameters come from.
    :param files: the file parameters, by name.
    """

    task_id: str
    arguments: tuple[str, ...]
    inherit: Inherited | None = None
    files: dict[str, FileFacts] = {}


class TaskArguments(msgspec.Struct, frozen=True, kw_only=True):
    """One of the tasks of a document.

    :param task_id: Metaflow task id.
    :param arguments: arguments that only this task has.
    """

    task_id: str
    arguments: tuple[str, ...]


class TaskDocument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which task a container runs, or which tasks an array of containers.

    :param flow_name: name of the flow.
    :param flow_file: its file in the code package.
    :param datastore: kind of the datastore.
    :param datastore_root: its root.
    :param step: the step.
    :param run_id: Metaflow run id.
    :param attempt: 0-based attempt.
    :param arguments: arguments that all the tasks share.
    :param tasks: the tasks.
    :param env: variables of the tasks.
    :param package: package of the flow file, as ``python -m`` knows it; empty for a script.
    :param init: for the start step: what is registered first.
    :param gang: number of nodes of a ``@parallel`` step.
    :param time_limit: after how many seconds a task is killed.
    """

    flow_name: str
    flow_file: str
    datastore: str
    datastore_root: str
    step: str
    run_id: str
    attempt: int
    arguments: tuple[str, ...]
    tasks: tuple[TaskArguments, ...]
    env: dict[str, str]
    package: str = ""
    init: InitRequest | None = None
    gang: int | None = None
    time_limit: int | None = None
