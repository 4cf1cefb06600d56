"""Clones of finished tasks: what a run that resumes another one clones instead of running it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from airflow_provider_metaflow.compute.local.processes import LocalCompute
from metaflow_orchestration.graph.model import Step
from metaflow_orchestration.run.commands import StepCall
from metaflow_orchestration.run.contexts import IndexPath
from metaflow_orchestration.run.origin import Origin, leads_on
from metaflow_orchestration.run.outcome import TaskOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginClones:
    """Clones the finished tasks that a step has in the origin of a resumed run.

    :param origin: the other run.
    :param step: the step.
    :param parameters: for the start step, the parameters of the resumed run.
    :param local: returns the worker's own access to the datastore.
    :param log: logger of the operator.
    """

    origin: Origin
    step: Step
    parameters: Mapping[str, str] | None
    local: Callable[[], LocalCompute]
    log: Any

    def clone(self, call: StepCall, path: IndexPath, iteration: int) -> TaskOutcome | None:
        """Clone a task; None if the origin has none that is of use.

        :param call: the task of the resumed run.
        :param path: index in every enclosing foreach.
        :param iteration: round of a recursive switch.
        """
        local = self.local()
        found = self.origin.task(self.step, path, iteration, local, call.run_id)
        if found is None:
            return None
        name, document = found
        if not leads_on(self.step, document):
            source = f"{self.origin.run_id}/{self.step.name}/{name}"
            self.log.info("%s is not cloned: it leads to %s", source, document.get("next"))
            return None
        parameters = self.parameters
        nodes = [one for one in document.get("gang") or () if one != name]
        # The nodes of a gang are named after their control task.
        own_ids = {name: call.task_id, **{one: call.task_id + _node(one, name, of) for of, one in enumerate(nodes, 1)}}
        for origin, own in own_ids.items():
            source = f"{self.origin.run_id}/{call.step.name}/{origin}"
            self.log.info("Metaflow task %s clones the result of %s", own, source)
            copy = msgspec.structs.replace(call, task_id=own, clone_of=source, ubf_context=None)
            outcome = local.run(copy, parameters)
            if origin == name:
                first, parameters = outcome, None
        gang = tuple(own_ids[one] for one in document.get("gang") or ())
        return replace(TaskOutcome.from_document(path, first), gang=gang, cloned=True)


def _node(node: str, control: str, number: int) -> str:
    """Return what the id of a node adds to that of its control task; other deployers name both as they like."""
    return node.removeprefix(control) if node.startswith(control) else f"_node_{number}"
