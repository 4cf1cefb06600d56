"""The run whose finished tasks a resumed run takes over. Free of Airflow."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airflow_provider_metaflow.exceptions import ParameterValueError
from airflow_provider_metaflow.flow.commands import Inherited
from airflow_provider_metaflow.graph.identity import RESUME_KEY, task_id
from airflow_provider_metaflow.graph.model import FlowGraph

from .contexts import IndexPath

_GENERATIONS = 4

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")
"""Run ids of all orchestrators; nothing that leads out of the flow's folder of the datastore, or to two paths."""

Probe = Callable[[str, str, Sequence[str]], list[dict[str, Any] | None]]


class Origin:
    """A run to take finished tasks from.

    :param run_id: its Metaflow run id.
    :param rerun: steps of which no task is taken over.
    :param given: parameters that the resumed run was given itself; all others are those of the origin.
    """

    def __init__(self, run_id: str, rerun: frozenset[str] = frozenset(), given: tuple[str, ...] = ()) -> None:
        self.run_id, self.rerun = run_id, rerun
        self.inherited = Inherited(run=run_id, given=given)

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
                f"{RESUME_KEY} must be an object with the key 'origin', the run to take tasks from.", flow=graph.name
            )
        if _RUN_ID.fullmatch(asked["origin"]) is None:
            raise ParameterValueError(
                f"the origin of {RESUME_KEY} is {asked['origin']!r:.80}, which is no run id.",
                flow=graph.name,
                hint="Give the id of a run of the same flow, without the flow's name, e.g. airflow-1f2e3d4c5b6a7980.",
            )
        step = asked.get("step")
        given = tuple(one.name for one in graph.parameters if one.name in conf)
        try:
            return cls(asked["origin"], graph.with_descendants(step) if step else frozenset(), given)
        except (KeyError, TypeError):
            raise ParameterValueError(f"has no step {step!r} to run again.", flow=graph.name) from None

    def task(self, step: str, path: IndexPath, iteration: int, probe: Probe) -> tuple[str, dict[str, Any]] | None:
        """Return id and outcome of the finished task that stands where one of this run stands, None if there is none.

        :param step: the step.
        :param path: index path.
        :param iteration: round of a recursive switch.
        :param probe: reads outcome documents from the datastore: step, run id, task ids.
        """
        if step in self.rerun:
            return None
        # Of a task that was cleared more often than Metaflow has attempts, the newest generation counts.
        ids = [task_id(path, iteration=iteration, generation=g) for g in reversed(range(_GENERATIONS))]
        found = probe(step, self.run_id, ids)
        return next(((name, one) for name, one in zip(ids, found, strict=True) if one is not None), None)
