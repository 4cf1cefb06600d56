"""Results of a run in the datastore, for task instances whose XComs are gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

from metaflow_orchestration.graph.identity import old_task_id, task_id
from metaflow_orchestration.graph.model import Step
from metaflow_orchestration.run.contexts import IndexPath
from metaflow_orchestration.run.outcome import TaskOutcome

_GENERATIONS = 4


@dataclass(frozen=True, slots=True)
class StoredResults:
    """Reads results of finished tasks.

    :param probe: reads outcome documents from the datastore: step, task ids.
    """

    probe: Callable[[str, Sequence[str]], list[dict[str, Any] | None]]

    def outcomes(self, step: Step, paths: Sequence[IndexPath]) -> dict[IndexPath, TaskOutcome]:
        """Return the outcomes of those tasks of a step that have finished.

        :param step: the step.
        :param paths: index paths of its tasks.
        """
        found = self._outcomes(step, paths, partial(task_id, step.name))
        missing = [path for path in paths if path not in found]
        # Of a run that an older release has begun.
        return {**found, **self._outcomes(step, missing, old_task_id)}

    def _outcomes(
        self, step: Step, paths: Sequence[IndexPath], name: Callable[..., str]
    ) -> dict[IndexPath, TaskOutcome]:
        if not paths:
            return {}
        newest_first = list(reversed(range(_GENERATIONS)))
        ids = [name(path, generation=g) for path in paths for g in newest_first]
        documents = iter(self.probe(step.name, ids))
        found = {}
        for path in paths:
            candidates = [(g, next(documents)) for g in newest_first]
            generation, document = next((one for one in candidates if one[1] is not None), (0, None))
            rounds = count(1)
            # Of a recursion the last round counts, which the others lead to.
            while document is not None and step.recursive and step.name in (document.get("next") or ()):
                (document,) = self.probe(step.name, [name(path, iteration=next(rounds), generation=generation)])
            if document is not None:
                found[path] = TaskOutcome.from_document(path, document)
        return found
