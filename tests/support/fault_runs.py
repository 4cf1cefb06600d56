"""Runs flows while faults strike, and sees that every run ends with what a run without faults has."""

from __future__ import annotations

import fcntl
import re
import sys
import time
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread, Timer
from typing import Any

import httpx

from airflow_provider_metaflow.embedded.airflow import EmbeddedAirflowError
from airflow_provider_metaflow.rest import dags, runs
from airflow_provider_metaflow.rest.client import AirflowApiError
from airflow_provider_metaflow.rest.task_instances import ENDED

from .airflow import FlowRun
from .faults import Fault, Site
from .patience import patient, wait_until
from .results import Results, artifacts

_AWAY = (AirflowApiError, EmbeddedAirflowError, httpx.HTTPError)
"""What a client of an Airflow meets whose API server or database is away."""

_UNANSWERED_SECONDS = 150
"""How long a fault waits for a process that it could kill, and for task instances that have tries left."""

_TRIES_SPENT = 3
"""A task instance that has more tries behind it must not lose another one: it has five, and a fault may take two."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """A flow on the Airflow, and the store that its artifacts are in: a folder of its own without."""

    dag_id: str
    flow: str
    on_s3: bool


@dataclass
class FaultyRuns:
    """Runs of deployed flows, some at a time, in turn, until all faults have struck."""

    site: Site
    flows: list[Deployed]
    at_a_time: int
    ended: dict[str, tuple[Deployed, FlowRun, str]] = field(default_factory=dict)
    struck: list[Fault] = field(default_factory=list)
    missed: list[Fault] = field(default_factory=list)
    _active: list[tuple[Deployed, FlowRun]] = field(default_factory=list)
    _started: int = 0

    def unpause(self) -> None:
        """Wait until the flows can be run."""
        for one in self.flows:
            dags.wait_for_dag(self.site.airflow.server.client, one.dag_id)
            dags.set_paused(self.site.airflow.server.client, one.dag_id, paused=False)

    def strike(self, faults: list[Fault]) -> None:
        """Let the faults strike, and keep runs going meanwhile."""
        ended = Event()
        # Not by this thread, since its requests may wait for what is away.
        keeper = Thread(target=self._keep_running, args=(ended,))
        keeper.start()
        repairs: list[Timer] = []
        try:
            for fault in faults:
                ended.wait(fault.pause)
                end = time.monotonic() + patient(_UNANSWERED_SECONDS)
                while not self._has_tries_left() and time.monotonic() < end:
                    ended.wait(0.5)
                while (repair := self.site.strike(fault)) is None and time.monotonic() < end:
                    ended.wait(0.2)
                (self.struck if repair else self.missed).append(fault)
                print(f"{time.strftime('%H:%M:%S')} {'killed' if repair else 'missed'}: {fault}", file=sys.stderr)
                if repair:
                    repairs.append(Timer(fault.away, repair))
                    repairs[-1].start()
        finally:
            for timer in repairs:
                timer.join()
            ended.set()
            keeper.join()

    def finish(self, timeout: float) -> None:
        """Wait until all runs have ended."""

        def all_ended() -> bool:
            self._look()
            return not self._active

        try:
            wait_until(all_ended, timeout, pause=1)
        except AssertionError:
            explained = "\n".join(f"{run.dag_id} {run.dag_run_id}: {run.states()}" for _, run in self._active)
            raise AssertionError(f"runs that do not end:\n{explained}") from None

    def _has_tries_left(self) -> bool:
        """Return whether each task instance may lose another try: several faults may strike the same one."""
        try:
            instances = [one for _, run in list(self._active) for one in run.instances().values()]
        except _AWAY:
            return False
        return all(one.state in ENDED or one.try_number <= _TRIES_SPENT for one in instances)

    def _keep_running(self, ended: Event) -> None:
        while not ended.wait(0.5):
            if len(self._active) < self.at_a_time:
                self._start()
            self._look()

    def _start(self) -> None:
        deployed = self.flows[self._started % len(self.flows)]
        run_id = f"test__{self._started}-{uuid.uuid4()}"
        self._started += 1
        run = FlowRun(self.site.airflow, deployed.flow, deployed.dag_id, run_id)
        self._active.append((deployed, run))
        self._trigger(run)

    def _trigger(self, run: FlowRun) -> None:
        with suppress(*_AWAY):
            runs.trigger(run.airflow.server.client, run.dag_id, run.dag_run_id, {})

    def _look(self) -> None:
        """See which runs have ended, and start those again that no server has heard of."""
        for deployed, run in list(self._active):
            with suppress(*_AWAY):
                found = runs.get_run(run.airflow.server.client, run.dag_id, run.dag_run_id)
                if found is None:
                    self._trigger(run)
                elif found.state in runs.FINISHED:
                    self._active.remove((deployed, run))
                    self.ended[run.dag_run_id] = (deployed, run, found.state)

    def artifacts(self, deployed: Deployed, run: FlowRun) -> Results:
        """Return what a run has left in its datastore."""
        if deployed.on_s3:
            store = self.site.store
            return artifacts(store.root, run.flow, run.run_id, environment=store.environment)
        return run.artifacts()

    def failures(self, expected: Results) -> list[str]:
        """Return what is wrong with the runs: an end other than success, artifacts that are not as expected."""
        wrong = [fault.kind for fault in self.missed]
        failures = [f"there was nothing to kill for {kind}" for kind in wrong]
        for deployed, run, state in self.ended.values():
            if state != "success":
                failures.append(f"{run.dag_id} {run.dag_run_id} {run.run_id} is {state}:\n{run.explain()}")
            elif (found := self.artifacts(deployed, run)) != expected:
                failures.append(f"{run.dag_id} {run.dag_run_id} {run.run_id} has other artifacts: {found}")
        return failures

    def tries(self) -> dict[str, int]:
        """Return how many task instances have needed how many tries."""
        counted: Counter[int] = Counter()
        for _, run, _ in self.ended.values():
            counted.update(one.try_number for one in run.instances().values() if one.state == "success")
        return {str(tries): counted[tries] for tries in sorted(counted)}


def remains(site: Site, temporary: Path) -> list[str]:
    """Return what tasks have left on the machine: processes, held locks, temporary files and folders.

    :param temporary: the folder for temporary files that Airflow and its tasks were given.
    """
    running = [one.title for one in site.processes() if _is_of_a_task(one.title)]
    caches = [*(site.airflow.server.home / "metaflow").rglob("*"), *temporary.glob("metaflow-airflow-*/*")]
    held = [str(path) for path in caches if path.suffix == ".lock" and _is_held(path)]
    # Of the cache: what is being made has such names. Of the warm process: its socket; lock and log stay.
    unfinished = [str(path) for path in caches if _UNFINISHED.search(str(path))]
    return [*running, *held, *unfinished, *map(str, temporary.glob("metaflow-task-*"))]


_UNFINISHED = re.compile(r"/\.[^/]*\.(removed|tmp)|/\.requests-|\.sock\.\d+$")


def _is_of_a_task(title: str) -> bool:
    return "task_runner.py" in title or (title.startswith("airflow worker -- ") and not title.endswith("<idle>"))


def _is_held(lock: Path) -> bool:
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def report(faulty: FaultyRuns, seed: int, began: float) -> dict[str, Any]:
    """Return the figures of what has happened."""
    return {
        "seed": seed,
        "kills": dict(sorted(Counter(one.kind for one in faulty.struck).items())),
        "kills_total": len(faulty.struck),
        "runs": dict(Counter(state for _, _, state in faulty.ended.values())),
        "task_instances_by_tries": faulty.tries(),
        "seconds": round(time.monotonic() - began),
    }
