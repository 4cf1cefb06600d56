"""The run whose finished tasks a resumed run reuses. Free of Airflow."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from metaflow_orchestration.documents.task import Inherited
from metaflow_orchestration.exceptions import ParameterValueError
from metaflow_orchestration.graph.identity import RESUME_KEY, old_task_id, task_id
from metaflow_orchestration.graph.model import FlowGraph, Step, StepKind

from .contexts import IndexPath

_GENERATIONS = 4

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")
"""Run ids of all orchestrators; nothing that leads out of the flow's folder of the datastore, or to two paths."""


class Store(Protocol):
    """The worker's access to the datastore of the flow."""

    def probe(self, step: str, run_id: str, task_ids: Sequence[str]) -> list[dict[str, Any] | None]:
        """Return outcome documents of tasks, None for those that have not finished.

        :param step: the step.
        :param run_id: Metaflow run id.
        :param task_ids: the tasks.
        """

    def find_tasks(self, step: Step, run_id: str, resumed: str) -> Mapping[str, dict[str, Any]] | None:
        """Return outcome documents by the ids that this package would give; None if it has made the run.

        :param step: the step.
        :param run_id: Metaflow run id.
        :param resumed: that of the run that resumes it.
        """


class Origin:
    """A run whose finished tasks are reused.

    :param run_id: its Metaflow run id.
    :param rerun: steps of which no task is reused.
    :param given: parameters that the resumed run was given itself; all others are those of the origin.
    """

    def __init__(self, run_id: str, rerun: frozenset[str] = frozenset(), given: tuple[str, ...] = ()) -> None:
        self.run_id, self.rerun = run_id, rerun
        self.inherited = Inherited(run=run_id, given=given)
        self._foreign: dict[str, Mapping[str, dict[str, Any]] | None] = {}

    @classmethod
    def of(cls, graph: FlowGraph, conf: Mapping[str, Any]) -> Origin | None:
        """Return the origin that the ``conf`` of a DAG run names, None if the run is no resumed one.

        :param graph: the flow.
        :param conf: configuration of the DAG run.
        :raises ParameterValueError: if it has a wrong form or names no step of the flow.
        """
        asked = conf.get(RESUME_KEY)
        if asked is None:
            return None
        if not isinstance(asked, Mapping) or not isinstance(asked.get("origin"), str):
            raise ParameterValueError(
                f"{RESUME_KEY} must be an object with the key 'origin', the run whose tasks are reused.",
                flow=graph.name,
            )
        if _RUN_ID.fullmatch(asked["origin"]) is None:
            raise ParameterValueError(
                f"the origin of {RESUME_KEY} is {asked['origin']!r:.80}, which is no run id.",
                flow=graph.name,
                hint="Give the id of a run of the same flow, without the flow's name, e.g. airflow-1f2e3d4c5b6a7980.",
            )
        step = asked.get("step")
        # Whoever writes it by hand gives what else stands there.
        named = asked.get("given", list(conf))
        if not isinstance(named, list):
            raise ParameterValueError(
                f"the key 'given' of {RESUME_KEY} must be the list of the parameters that are given.", flow=graph.name
            )
        given = tuple(one.name for one in graph.parameters if one.name in conf and one.name in named)
        try:
            return cls(asked["origin"], graph.with_descendants(step) if step else frozenset(), given)
        except (KeyError, TypeError):
            raise ParameterValueError(f"has no step {step!r} to run again.", flow=graph.name) from None

    def task(
        self, step: Step, path: IndexPath, iteration: int, store: Store, run_id: str
    ) -> tuple[str, dict[str, Any]] | None:
        """Return id and outcome of the finished task that stands where one of this run stands, None if there is none.

        :param step: the step.
        :param path: index path.
        :param iteration: round of a recursive switch.
        :param store: the datastore.
        :param run_id: Metaflow run id of the resumed run.
        """
        if step.name in self.rerun:
            return None
        if step.name not in self._foreign:
            self._foreign[step.name] = store.find_tasks(step, self.run_id, run_id)
        foreign = self._foreign[step.name]
        if foreign is not None:
            document = foreign.get(task_id(step.name, path, iteration=iteration))
            return None if document is None else (document["task_id"], document)
        # Of a task that was cleared more often than Metaflow has attempts, the newest generation counts.
        newest_first = list(reversed(range(_GENERATIONS)))
        ids = [task_id(step.name, path, iteration=iteration, generation=g) for g in newest_first]
        return self._first(step, ids, store) or self._first(
            step, [old_task_id(path, iteration=iteration, generation=g) for g in newest_first], store
        )

    def _first(self, step: Step, ids: Sequence[str], store: Store) -> tuple[str, dict[str, Any]] | None:
        found = store.probe(step.name, self.run_id, ids)
        return next(((name, one) for name, one in zip(ids, found, strict=True) if one is not None), None)


def leads_on(step: Step, document: Mapping[str, Any]) -> bool:
    """Return whether a task of an earlier version of a flow leads where the step leads today.

    Where it does not, e.g. since a step was put behind it, its result is of no use: what follows would wait for ever,
    or run without it.

    :param step: the step of today.
    :param document: outcome document of the task.
    """
    named, known = set(document.get("next") or ()), {*step.next_steps, *((step.name,) if step.recursive else ())}
    fits = named <= known and len(named) == 1 if step.kind is StepKind.SWITCH else named == known
    splits = (document.get("num_splits") is not None, document.get("num_parallel") is not None)
    return fits and splits == (step.kind is StepKind.FOREACH, step.kind is StepKind.PARALLEL)
