"""What a task of a resumed run clones from the run that is resumed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from origin_tasks import changed_steps, find_tasks  # type: ignore[import-not-found]
from resumed_run import PARAMETERS_TASK_VARIABLE  # type: ignore[import-not-found]
from task_place import (  # type: ignore[import-not-found]
    CHANGED_VARIABLE,
    ORIGIN_VARIABLE,
    PARAMETERS,
    Place,
    check_name,
    read_variable,
    step_in_id,
    task_id,
)

if TYPE_CHECKING:
    from .task_documents import Outcome, StepDocument

FindOutcome = Callable[[str, str, str], "Outcome | None"]
"""From step, task id and run id to the outcome of a finished task."""


class Origin(NamedTuple):
    """The run that a resumed one takes finished tasks and parameters from.

    :param run_id: its run id.
    :param rerun: steps that run again; whoever resumes a run names all that follow a step, too.
    :param given: parameters that the resumed run was given; all others are those of the origin.
    """

    run_id: str
    rerun: tuple[str, ...]
    given: tuple[str, ...]

    @classmethod
    def read(cls, environment: Any) -> Origin | None:
        """Read it from the variable that the orchestrator has set; None if the run resumes no other one."""
        run_id, *words = read_variable(environment, ORIGIN_VARIABLE).split(":")
        if not run_id:
            return None
        check_name(run_id, "the run to resume")
        given = tuple(word[2:] for word in words if word.startswith("--"))
        return cls(run_id, tuple(word for word in words if not word.startswith("--")), given)

    def source(self, document: StepDocument, place: Place, datastore: Any, outcome: FindOutcome) -> list[str]:
        """Return ``run/step/task`` of the result that a task clones, with all nodes of a gang.

        Nothing is returned where the task must run.
        """
        step = document["step"]
        own = task_id(step, place.path, place.iteration)
        if step in self.rerun or self._has_changed(step, place, datastore):
            return []
        found = outcome(step, own, self.run_id)
        if found is None:
            # Of a release before 0.1.0, whose task ids are unique in their step only.
            own = own.replace("t-" + step_in_id(step), "t", 1)
            found = outcome(step, own, self.run_id)
        if found is None:
            found = self._of_other_deployer(document, place, datastore)
        reported = document.get("reports") or next(iter(document.get("outputs") or ()), None)
        fact = {"splits": "num_splits", "nodes": "num_parallel"}.get(reported or "")
        if found is None or (fact and found.get(fact) is None):
            return []
        sources = ["%s/%s/%s" % (self.run_id, step, one) for one in found.get("gang") or [found.get("task_id", own)]]
        print("The result of %s is cloned." % sources[0], file=sys.stderr)
        return sources

    def _has_changed(self, step: str, place: Place, datastore: Any) -> bool:
        if not _is_done(datastore, place.run_id, *PARAMETERS):
            # The first step, before anything of the run is stored; what follows it will see whether it has changed.
            return False
        return step in changed_steps(datastore, place.run_id, self.run_id)

    def _of_other_deployer(self, document: StepDocument, place: Place, datastore: Any) -> Outcome | None:
        if _is_done(datastore, self.run_id, *PARAMETERS):
            # Tasks of this package are found by their ids.
            return None
        gang = bool(document.get("is_gang"))
        tasks = find_tasks(datastore, self.run_id, document["step"], len(place.path), gang)
        found: Outcome | None = tasks.get(task_id(document["step"], place.path, place.iteration))
        return found


def leave_parameters(document: StepDocument, run_id: str, origin: Origin | None) -> None:
    """Tell ``init`` which parameters are the origin's, and all steps where those of their own run are.

    :param document: document of the step.
    :param run_id: Metaflow run id.
    :param origin: the run that is resumed, if one is.
    """
    if origin and "init" in document:
        document["init"]["inherit"] = {"run": origin.run_id, "given": list(origin.given)}
    if origin or os.environ.get(CHANGED_VARIABLE):
        document["env"][PARAMETERS_TASK_VARIABLE] = "/".join([run_id, *PARAMETERS])


def _is_done(datastore: Any, run_id: str, step: str, task: str) -> bool:
    from metaflow.datastore.exceptions import DataException

    try:
        datastore.get_task_datastore(run_id, step, task)
    except DataException:
        return False
    return True
