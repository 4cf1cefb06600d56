"""Which Metaflow run a DAG run is, where DAG runs of the same id came before it.

Airflow's run id is not unique in time: a DAG run may be deleted and made again, or a backfill may run it again with
another configuration. Its Metaflow run id is a hash of that id, so the start step keeps a record in the flow's
datastore of what the DAG run looked like that has begun each Metaflow run. A DAG run which is not that one gets a
Metaflow run of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from airflow_provider_metaflow.compute.local.processes import LocalCompute
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.documents.structs import built
from metaflow_orchestration.exceptions import MissingResultError, StepNotRunnableError
from metaflow_orchestration.graph.identity import numbered_run_id, run_number
from metaflow_orchestration.run.outcome import InstanceOutcome

from .first_manifest import keep_manifest


class DagRunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a task sees of its DAG run by which two DAG runs of one id differ.

    :param started: when it was started; a clear of an ended run starts it again.
    :param clears: how often tasks of it were cleared.
    :param run_after: from when on it could be started.
    :param conf: digest of its configuration.
    """

    started: str
    clears: int
    run_after: str
    conf: str

    def is_later(self, earlier: DagRunFacts) -> bool:
        """Return whether these facts can be of the same DAG run, at the same time or after a clear.

        :param earlier: what was recorded.
        """
        if earlier.clears == self.clears:
            return earlier.started == self.started
        return earlier.clears < self.clears and (earlier.run_after, earlier.conf) == (self.run_after, self.conf)


class _Begun(msgspec.Struct, frozen=True, kw_only=True):
    """A Metaflow run, and the DAG run that began it."""

    run_id: str
    facts: DagRunFacts
    parameters: str
    code: str
    graph: str
    manifest: str = ""

    def as_outcome(self) -> InstanceOutcome:
        """Return what the run began with, in the form in which task instances report it."""
        return InstanceOutcome(run_id=self.run_id, code=self.code, graph=self.graph, manifest=self.manifest, tasks=())


@built
class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """The Metaflow runs of one DAG run id, the newest last."""

    runs: tuple[_Begun, ...] = ()


def facts_of(dag_run: Any) -> DagRunFacts:
    """Return the facts by which a DAG run differs from another one of the same id.

    :param dag_run: the DAG run in Airflow's task context.
    """
    return DagRunFacts(
        started=_time(dag_run.start_date),
        clears=dag_run.clear_number or 0,
        run_after=_time(dag_run.run_after),
        conf=_digest(dag_run.conf or {}),
    )


class RunIdentity:
    """Finds the Metaflow run of a DAG run.

    :param first: Metaflow run id of the first DAG run of the id.
    :param facts: those of this DAG run.
    :param local: returns the worker's own access to the datastore.
    :param needs_store: whether the worker must be able to reach it; steps in pods and jobs need only that these can.
    """

    def __init__(
        self, first: str, facts: DagRunFacts, local: Callable[[], LocalCompute], *, needs_store: bool = True
    ) -> None:
        self._first, self._facts, self._local = first, facts, local
        self._needs_store = needs_store
        self._found: InstanceOutcome | None = None
        self._is_read = False

    def begin(self, try_number: int, parameters: Mapping[str, str], manifest: Manifest) -> InstanceOutcome:
        """Return the run that a try of the start step works for, and record it before anything of it is run.

        The first try always begins a new run. A later try continues the newest run, unless another DAG run has begun
        that, or the task was cleared and has other parameters now.

        :param try_number: Airflow's number of the try, 1 for the first.
        :param parameters: values of the run's parameters.
        :param manifest: the compiled flow as it is deployed now; it is kept for the tasks that follow.
        """
        try:
            return self._begin_recorded(try_number, parameters, manifest).as_outcome()
        except StepNotRunnableError:
            if self._needs_store:
                raise
            return InstanceOutcome(run_id=self._unrecorded(), code=manifest.code.sha, tasks=())

    def _begin_recorded(self, try_number: int, parameters: Mapping[str, str], manifest: Manifest) -> _Begun:
        runs, digest = self._load().runs, _digest(dict(parameters))
        last = runs[-1] if runs else None
        if last is not None and try_number > 1 and self._goes_on(last, digest):
            run_id, runs = last.run_id, runs[:-1]
        elif last is None and try_number > 1 and self._facts.clears:
            # Begun by a release before 0.2, which kept no record.
            run_id = self._first
        else:
            run_id = self._unused(last)
        begun = _Begun(
            run_id=run_id,
            facts=self._facts,
            parameters=digest,
            code=manifest.code.sha,
            graph=manifest.graph.shape,
            manifest=keep_manifest(manifest, self._local()),
        )
        self._local().save_record(self._first, msgspec.to_builtins(_Record(runs=(*runs, begun))))
        return begun

    def recorded(self) -> InstanceOutcome | None:
        """Return the run that the start step has recorded, for tasks whose parents' XComs are gone.

        None if there is no record, or if it is of another DAG run of the same id.
        """
        if not self._is_read:
            self._is_read = True
            try:
                runs = self._load().runs
            except StepNotRunnableError:
                if self._needs_store:
                    raise
                return None
            if runs and self._facts.is_later(runs[-1].facts):
                self._found = runs[-1].as_outcome()
        return self._found

    def _goes_on(self, last: _Begun, parameters: str) -> bool:
        if not self._facts.is_later(last.facts):
            return False
        # Templates may have another value in each try; it is a clear that asks for new ones.
        return self._facts.clears == last.facts.clears or parameters == last.parameters

    def _unused(self, last: _Begun | None) -> str:
        number = 1 if last is None else (run_number(last.run_id, self._first) or 0) + 1
        while self._local().has_run(numbered_run_id(self._first, number)):
            number += 1
        return numbered_run_id(self._first, number)

    def _unrecorded(self) -> str:
        """Return a run id that the DAG run shares with no other of its id, without a record of those.

        Tries have the same; a clear of an ended run begins another run, in which all of its tasks must run.
        """
        digest = hashlib.sha256(self._facts.started.encode()).hexdigest()
        return numbered_run_id(self._first, 100_000 + int(digest[:12], 16) % 900_000)

    def _load(self) -> _Record:
        data = self._local().load_record(self._first)
        try:
            return _Record() if data is None else msgspec.convert(data, _Record)
        except msgspec.ValidationError as error:
            raise MissingResultError(
                f"the record of the DAG run in the datastore, mf.dag_runs/…/{self._first}, cannot be read ({error}).",
                hint="Delete that object, and clear the whole run.",
            ) from None


def _time(moment: Any) -> str:
    return "" if moment is None else str(moment.isoformat())


def _digest(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()[:16]
