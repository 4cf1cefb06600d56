"""Finished tasks of runs that this package has not made: those of ``python flow.py run`` and of other deployers.

Their task ids tell nothing of where a task is in the run, and they have written no summary. What a resumed run must
know of them stands in a few artifacts of Metaflow's own, which are read here by an unpickler that knows no class but
those that Metaflow puts into them: whoever has stored something else brings no code along.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from resumed_run import GRAPH, find_parameters, own_parameters  # type: ignore[import-not-found]
from task_place import task_id  # type: ignore[import-not-found]
from task_summary import VERSION, outcome_of, type_name  # type: ignore[import-not-found]

if TYPE_CHECKING:
    from .task_documents import ArtifactFacts, Outcome, Summary

StoredValues = Mapping[str, Any]
"""Artifacts of Metaflow's own by name; of whatever type the process has stored that made them."""


class _StoredStep(TypedDict, total=False):
    """What Metaflow has stored of a step of a flow (``FlowGraph.output_steps``)."""

    type: str
    next: list[str]


_FRAME_INDEX = 3
"""Which field of ``metaflow.tuple_util.ForeachFrame`` is the index."""

_ARTIFACTS = (
    "_task_ok",
    "_foreach_stack",
    "_iteration_stack",
    "_transition",
    "_foreach_num_splits",
    "_foreach_values",
    "_parallel_ubf_iter",
    "_control_mapper_tasks",
)


class _Frame(tuple[Any, ...]):
    """A frame of ``_foreach_stack``, without the class of Metaflow."""

    __slots__ = ()

    def __new__(cls, *fields: Any) -> _Frame:
        return super().__new__(cls, fields)


class _Parallel:
    """``metaflow.flowspec.ParallelUBF``: what ``num_parallel`` has asked for."""

    num_parallel: Any = None


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known = {("__main__", "ForeachFrame"): _Frame, ("metaflow.flowspec", "ParallelUBF"): _Parallel}
        found = known.get((module, name))
        if found is None:
            raise pickle.UnpicklingError("%s.%s is no class of Metaflow's own artifacts." % (module, name))
        return found


def is_own(datastore: Any, run_id: str) -> bool:
    """Tell whether a run was made by this package, whose task ids say where in the run they are.

    :param datastore: datastore of the flow.
    :param run_id: Metaflow run id.
    """
    return own_parameters(datastore, run_id) is not None


def find_tasks(datastore: Any, run_id: str, step: str, depth: int, gang: bool) -> dict[str, Outcome]:
    """Return the outcome documents of the finished tasks of a step, by the ids that this package would give them.

    :param datastore: datastore of the flow.
    :param run_id: Metaflow run id.
    :param step: the step.
    :param depth: how many foreaches it is in.
    :param gang: whether it is a ``@parallel`` step, of which only the control tasks are returned.
    """
    tasks = datastore.get_task_datastores(run_id, steps=[step])
    found = {}
    for task, values in zip(tasks, _load(datastore, tasks), strict=True):
        name = _name(step, values, depth, gang)
        outcome = _outcome(task, values) if name is not None else None
        if name is not None and outcome is not None:
            found[name] = outcome
    return found


def changed_steps(datastore: Any, run_id: str, origin: str) -> frozenset[str]:
    """Return the steps of a run of which no result of another run can stand: the flow leads elsewhere there today.

    These are the steps that are new or go on in another way, and all that follow them. Before a run has stored its
    parameters nothing is known of it, and no step is returned.

    :param datastore: datastore of the flow.
    :param run_id: Metaflow run id of the run.
    :param origin: that of the other run.
    """
    own, other = _graph(datastore, run_id), _graph(datastore, origin) or {}
    if own is None:
        return frozenset()
    waiting = [name for name, facts in own.items() if _way(facts) != _way(other.get(name))]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(own.get(name, {}).get("next") or ())
    return frozenset(found)


def clone_problem(datastore: Any, run_id: str, step: str, outcome: Outcome | None) -> str | None:
    """Return why a result cannot stand for a task of a run: a switch has chosen a step that is no choice today.

    :param datastore: datastore of the flow.
    :param run_id: Metaflow run id of the run.
    :param step: the step.
    :param outcome: outcome document of the other run's task.
    """
    facts = (_graph(datastore, run_id) or {}).get(step) or {}
    led_to = outcome.get("next") if outcome else None
    gone = [one for one in led_to or () if one not in (facts.get("next") or ())]
    if facts.get("type") != "split-switch" or not gone:
        return None
    return "The step %s led to %s, which it does not lead to any more. Resume the run with --step-to-rerun %s." % (
        step,
        gone[0],
        step,
    )


def _graph(datastore: Any, run_id: str) -> dict[str, _StoredStep] | None:
    """Return what Metaflow has stored of the steps of a run's flow, None if there is nothing that can be read."""
    task = find_parameters(datastore, run_id)
    if task is None:
        return None
    key = task._objects.get(GRAPH)
    (blob,) = [blob for _, blob in datastore.ca_store.load_blobs([key])] if key else (b"",)
    info = _plain(blob)
    return info.get("steps") if isinstance(info, dict) else None


def _way(facts: _StoredStep | None) -> Any:
    return facts and (facts.get("type"), sorted(facts.get("next") or ()))


def make_summary(datastore: Any, task: Any) -> Summary | None:
    """Return a summary of a task that has written none; without values of artifacts, which are not unpickled.

    :param datastore: datastore of the flow.
    :param task: datastore of the task.
    """
    (values,) = _load(datastore, [task])
    outcome = _outcome(task, values)
    if outcome is None:
        return None
    stored = task.ds_metadata
    names = sorted(name for name in stored["objects"] if not name.startswith("_") and name != "name")
    artifacts: dict[str, ArtifactFacts] = {}
    for name in names:
        info = stored["info"].get(name) or {}
        key = stored["objects"][name]
        artifacts[name] = {"key": key, "type": type_name(info.get("type")), "size": info.get("size")}
    return {"version": VERSION, "ok": True, "outcome": outcome, "artifacts": artifacts}


def _load(datastore: Any, tasks: list[Any]) -> list[StoredValues]:
    """Return Metaflow's own artifacts of tasks; many of them are the same, and loaded once."""
    wanted = [{name: task._objects[name] for name in _ARTIFACTS if name in task._objects} for task in tasks]
    keys = list({key for one in wanted for key in one.values()})
    loaded = {key: _plain(blob) for key, blob in datastore.ca_store.load_blobs(keys)} if keys else {}
    return [{name: loaded[key] for name, key in one.items()} for one in wanted]


def _plain(blob: bytes) -> Any:
    try:
        return _PlainUnpickler(io.BytesIO(blob)).load()
    except Exception:  # whatever stands there is not what Metaflow stores
        return None


def _name(step: str, values: StoredValues, depth: int, gang: bool) -> str | None:
    """Return the task id that says where a task is, None if it is not where the step is today."""
    frames = [frame[_FRAME_INDEX] for frame in values.get("_foreach_stack") or ()]
    # The nodes of a gang are one more frame; the control node is the first.
    inner = frames[depth:]
    if len(frames) < depth or (inner and (not gang or inner != [0])):
        return None
    rounds = values.get("_iteration_stack") or [0]
    return str(task_id(step, tuple(frames[:depth]), rounds[-1]))


def _outcome(task: Any, values: StoredValues) -> Outcome | None:
    from step_decorator import describe_outcome  # type: ignore[import-not-found]

    if values.get("_task_ok") is not True:
        return None
    try:
        described = describe_outcome(values.get, task.task_id, task.attempt)
        found: Outcome | None = outcome_of({"ok": True, "outcome": described}, task.task_id, task.attempt)
    except (AttributeError, TypeError, ValueError):
        # Of types that Metaflow does not store.
        return None
    return found
