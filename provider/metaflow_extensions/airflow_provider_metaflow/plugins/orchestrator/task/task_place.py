"""Where in a run a task stands, which tasks lead to it, and the variables in which an orchestrator says so."""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from resumed_run import PARAMETERS_STEP, PARAMETERS_TASK  # type: ignore[import-not-found]

if TYPE_CHECKING:
    from .task_documents import Branch, Outcome, Sources, WalkedStep

PLACE_VARIABLE = "METAFLOW_ORCHESTRATOR_PLACE"
"""Environment variable with the index path, e.g. ``3-0``; before an ``@``, what tells runs of one workflow apart."""

RUN_VARIABLE = "METAFLOW_ORCHESTRATOR_RUN"
"""Environment variable with the run id."""

ITERATION_VARIABLE = "METAFLOW_ORCHESTRATOR_ITERATION"
TRY_VARIABLE = "METAFLOW_ORCHESTRATOR_TRY"
"""Environment variable with the 0-based number of the orchestrator's try."""

NODES_VARIABLE = "METAFLOW_ORCHESTRATOR_NODES"
"""Environment variable with the number of nodes of a gang."""

GANG_VARIABLE = "METAFLOW_ORCHESTRATOR_GANG"
"""Environment variable with what no other attempt of a gang has: the name of its job."""

ADDRESS_VARIABLE = "METAFLOW_ORCHESTRATOR_ADDRESS"

PARAMETERS_VARIABLE = "METAFLOW_ORCHESTRATOR_PARAMETERS"
"""Environment variable with the parameters of the run: base64 of a JSON list of ``{"name": …, "value": …}``,
or of an object with names and values."""

ORIGIN_VARIABLE = "METAFLOW_ORCHESTRATOR_ORIGIN"
"""Environment variable of a resumed run: the origin's run id, names of steps to run again, and, each after two dashes,
names of the parameters that the run was given; with colons between."""

CHANGED_VARIABLE = "METAFLOW_ORCHESTRATOR_CHANGED"
"""Environment variable of a run that is resumed in place with other parameters than its first tasks have seen."""

OUTCOME_VARIABLE = "METAFLOW_ORCHESTRATOR_OUTCOME"
LINKS_VARIABLE = "METAFLOW_ORCHESTRATOR_LINKS"
TRIGGERS_VARIABLE = "METAFLOW_ORCHESTRATOR_TRIGGERS"
"""As in ``step_decorator.py``, which Metaflow loads as part of a package and this folder as a file."""

PARAMETERS = (PARAMETERS_STEP, PARAMETERS_TASK)
"""Step and task of the parameters."""

ENCODED = "_BASE64"
"""At the end of the name of a variable whose value an orchestrator has encoded."""


def read_variable(environment: Any, name: str) -> str:
    """Return the value of a variable that an orchestrator may have encoded, empty if it is not set.

    :param environment: environment variables.
    :param name: the variable.
    """
    encoded: str | None = environment.get(name + ENCODED)
    text: str = environment.get(name, "") if encoded is None else decoded(encoded)
    return text


def decoded(text: str) -> str:
    """Return text from base64.

    :param text: its base64.
    """
    return base64.b64decode(text).decode("utf-8", "replace")


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def check_name(text: str, what: str) -> None:
    """Refuse a name that leads out of the flow's folder of the datastore; whoever starts a run may choose it.

    :param text: the name.
    :param what: what it names, for the message.
    """
    if _NAME.fullmatch(text) is None:
        sys.exit(
            "The name of %s is %s; it may hold letters, digits, dots, dashes and underscores." % (what, ascii(text))
        )


class Place:
    """Where in the run a task stands.

    :param run_id: Metaflow run id.
    :param path: index in every enclosing foreach, outermost first.
    :param iteration: iteration of a recursive switch.
    """

    def __init__(self, run_id: str, path: tuple[int, ...], iteration: int = 0) -> None:
        self.run_id, self.path, self.iteration = run_id, path, iteration

    @classmethod
    def read(cls, environment: Any) -> Place:
        """Read it from the variables that the orchestrator has set."""
        prefix, _, indexes = read_variable(environment, PLACE_VARIABLE).rpartition("@")
        if prefix.startswith("="):
            # In a user's own workflow: its text may hold what others have chosen.
            prefix = decoded(prefix[1:])
        run_id = environment[RUN_VARIABLE] + ("-%s" % prefix if prefix else "")
        # Both are parts of paths in the datastore.
        check_name(run_id, "the run")
        path = tuple(int(index) for index in indexes.split("-") if index)
        return cls(run_id, path, int(environment.get(ITERATION_VARIABLE) or 0))


def task_id(step: str, path: tuple[int, ...], iteration: int = 0) -> str:
    """Return the id of a task, as ``graph/identity.py`` of the core makes it.

    :param step: the step.
    :param path: index in every enclosing foreach.
    :param iteration: iteration of a recursive switch.
    """
    text = "-".join(["t", step_in_id(step), *map(str, path)])
    return "%s-r%d" % (text, iteration) if iteration else text


def step_in_id(step: str) -> str:
    """Return the part of a task id that stands for the step.

    :param step: the step.
    """
    if re.fullmatch("[A-Za-z0-9_]{1,64}", step):
        return step
    plain = re.sub("[^A-Za-z0-9_]", "_", step)[:55]
    return "%s.%s" % (plain, hashlib.sha256(step.encode()).hexdigest()[:8])


class Finder:
    """Finds the executed tasks that lead to a step, by what the tasks before it have chosen.

    :param outcome: function from step and task id to the outcome document of a finished task, None without one.
    :param steps: facts of the steps that may have to be walked through, by name; see ``adapters``' ``sources.py``.
    """

    def __init__(self, outcome: Callable[[str, str], Outcome | None], steps: dict[str, WalkedStep]) -> None:
        self._outcome, self._steps = outcome, steps

    def inputs(self, step: str, sources: Sources, path: tuple[int, ...]) -> list[str]:
        """Return ``step/task`` of each input, in the order in which a join sees them.

        :param step: the step.
        :param sources: where its inputs come from.
        :param path: its own index path.
        """
        gang = sources.get("gang")
        if gang:
            return ["%s/%s" % (gang, one) for one in self._of(gang, task_id(gang, path))["gang"]]
        places = [path]
        if "foreach" in sources:
            outer = self._of(sources["foreach"], task_id(sources["foreach"], path))
            places = [(*path, index) for index in range(outer["num_splits"])]
        return [self._branch(step, branch, place) for place in places for branch in sources["branches"]]

    def _branch(self, step: str, branch: Branch, path: tuple[int, ...]) -> str:
        if "parent" in branch:
            return "%s/%s" % (branch["parent"], task_id(branch["parent"], path[: branch["depth"]]))
        current = branch["first"]
        while True:
            facts = self._steps[current]
            own = task_id(current, path[: facts["depth"]])
            following = facts.get("next")
            if following is None:
                own, chosen = self._last_iteration(current, path[: facts["depth"]])
                (following,) = chosen
            if following == step:
                return "%s/%s" % (current, own)
            current = following

    def _last_iteration(self, step: str, path: tuple[int, ...]) -> tuple[str, list[str]]:
        iteration = 0
        while True:
            own = task_id(step, path, iteration)
            chosen = self._of(step, own)["next"]
            if step not in chosen:
                return own, chosen
            iteration += 1

    def _of(self, step: str, task: str) -> Outcome:
        found = self._outcome(step, task)
        if found is None:
            raise LookupError("The task %s/%s, which must come before, has no result in the datastore." % (step, task))
        return found
