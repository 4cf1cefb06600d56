"""The parameters of a run that resumes another one, or that is resumed in place with other parameters.

Parameters are artifacts of the task ``_parameters``, and each step passes on those of its inputs. The clone of a
finished task keeps the artifacts of its origin, so a step that runs again behind a clone would see the parameters of
the other run. In a resumed run every such step takes those of its own run instead; and the run itself takes all
parameters that it was not given from the other run.

Standard library only at the top: the packaged copy of this module is loaded in each task.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

PARAMETERS_TASK_VARIABLE = "METAFLOW_ORCHESTRATOR_PARAMETERS_TASK"
"""Environment variable of the tasks of such a run: ``run/step/task`` with the parameters of that run."""

PARAMETERS_STEP = "_parameters"
PARAMETERS_TASK = "t-params"
"""The task of the parameters in runs of this package; other orchestrators and ``run`` choose other ids."""

GRAPH = "_graph_info"
"""Artifact of that task: what Metaflow has stored of the steps of the flow."""

MAX_ATTEMPTS = 6
"""Attempts that Metaflow allows for one task (``metaflow.metaflow_config.MAX_ATTEMPTS``)."""


def own_parameters(datastore: Any, run_id: str) -> Any:
    """Return the datastore of the task with the parameters of a run of this package; None if the run is none.

    :param datastore: datastore of the flow.
    :param run_id: Metaflow run id.
    """
    from metaflow.datastore.exceptions import DataException

    try:
        return datastore.get_task_datastore(run_id, PARAMETERS_STEP, PARAMETERS_TASK)
    except DataException:
        return None


def find_parameters(datastore: Any, run_id: str) -> Any:
    """Return the datastore of the task with the parameters of a run, whoever made the run; None if there is none.

    :param datastore: datastore of the flow.
    :param run_id: Metaflow run id.
    """
    own = own_parameters(datastore, run_id)
    if own is not None:
        return own
    return next(iter(datastore.get_task_datastores(run_id, steps=[PARAMETERS_STEP])), None)


def inherit_parameters(origin: str, given: Collection[str]) -> None:
    """Let the ``init`` of this process store the parameters of another run, except those that were given.

    The artifacts themselves are cloned: no value is read, so that neither its type nor its size matters.

    :param origin: Metaflow run id of the other run.
    :param given: names of the parameters that this run was given.
    """
    from metaflow.runtime import Task

    persist = Task.persist

    def persist_with_origin(task: Any, flow: Any) -> None:
        wanted = [
            variable
            for variable, parameter in flow._get_parameters()
            if not parameter.IS_CONFIG_PARAMETER and parameter.name not in given
        ]
        store, done = task._ds, task._ds.done

        def take_and_finish() -> None:
            # After the values of this run were stored, and before anybody is told of them.
            store.passdown_partial(find_parameters(task._flow_datastore, origin), wanted)
            done()

        store.done = take_and_finish
        persist(task, flow)

    Task.persist = persist_with_origin


def change_parameters(datastore: Any, metadata: Any, run_id: str, values: Mapping[str, Any]) -> None:
    """Store other parameters of a run that is resumed in place, as one more attempt of the task that holds them.

    What was stored before stays readable as the attempt before.

    :param datastore: datastore of the flow.
    :param metadata: metadata provider.
    :param run_id: Metaflow run id of a run of this package.
    :param values: values by name of the variable.
    :raises ValueError: if the run has no such parameter, or its parameters were changed too often.
    """
    from metaflow.metadata_provider import MetaDatum

    before = find_parameters(datastore, run_id)
    if before is None:
        raise ValueError("The run %s has stored no parameters; start a new one." % run_id)
    missing = sorted(set(values) - set(before._objects))
    if missing:
        raise ValueError(
            "The run %s was made by code without the parameter %s; start a new one." % (run_id, missing[0])
        )
    attempt = before.attempt + 1
    if attempt >= MAX_ATTEMPTS:
        raise ValueError("The parameters of the run %s were changed %d times; start a new one." % (run_id, attempt - 1))
    # Clients look at the attempt that the metadata name.
    found = {"attempt": str(attempt), "attempt_ok": "True"}
    kinds = {"attempt": "attempt", "attempt_ok": "internal_attempt_status"}
    tags = ["attempt_id:%d" % attempt]
    after = datastore.get_task_datastore(run_id, PARAMETERS_STEP, before.task_id, attempt=attempt, mode="w")
    after.init_task()
    after.clone(before)
    after.save_artifacts(iter(values.items()))
    data = [MetaDatum(field=name, value=value, type=kinds[name], tags=tags) for name, value in found.items()]
    metadata.register_metadata(run_id, PARAMETERS_STEP, before.task_id, data)
    after.done()


def use_own_parameters() -> None:
    """Let a step of this process see the parameters of its own run, whichever run its inputs were cloned from."""
    path = os.environ.get(PARAMETERS_TASK_VARIABLE)
    if not path:
        return
    from metaflow.task import MetaflowTask

    load = MetaflowTask._init_data
    if getattr(load, "takes_own_parameters", False):
        return

    def load_with_parameters(task: Any, *args: Any, **options: Any) -> Any:
        inputs = load(task, *args, **options)
        own = task.flow_datastore.get_task_datastore(*path.split("/"))
        # Parameters, class constants and configurations: steps can set none of them.
        names = [name for name in own._objects if name == GRAPH or (name[0] != "_" and name != "name")]
        for one in inputs:
            one._objects = {**one._objects, **{name: own._objects[name] for name in names}}
            one._info = {**one._info, **{name: own._info[name] for name in names}}
        return inputs

    load_with_parameters.takes_own_parameters = True  # type: ignore[attr-defined]
    MetaflowTask._init_data = load_with_parameters
