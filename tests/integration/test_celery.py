"""What fails around runs on Celery workers: a host, a worker that is asked to end, the broker."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.support.airflow import FlowRun
from tests.support.celery import IDLE_SECONDS, CeleryAirflow, celery_airflow, deploy
from tests.support.object_store import ObjectStore
from tests.support.patience import wait_until

pytestmark = [pytest.mark.scheduler, pytest.mark.extended]


@pytest.fixture(scope="module")
def celery(store: ObjectStore) -> Iterator[CeleryAirflow]:
    with celery_airflow(store) as started:
        yield started
        # Nothing runs on but the workers themselves, whose first processes have the tree below them.
        for worker in started.workers.values():
            wait_until(lambda worker=worker: not steps_of(worker.processes()), timeout=2 * IDLE_SECONDS)


def steps_of(processes: dict[int, str]) -> list[str]:
    """Return the processes of tasks and steps among those of a host."""
    return [title for title in processes.values() if re.search(r"task_runner\.py|airflow worker --", title)]


class Held(NamedTuple):
    """A run whose tasks are held."""

    run: FlowRun
    folder: Path

    def release(self) -> None:
        (self.folder / "hold").unlink()

    def notes(self) -> list[tuple[int, int, str]]:
        """Return index, attempt and host of each task that has begun."""
        file = self.folder / "notes"
        lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
        return sorted((int(index), int(attempt), host) for index, attempt, host in lines)


def hold(celery: CeleryAirflow, flows: Path, folder: Path) -> Held:
    """Return a run with six tasks that wait, some on each host."""
    deploy(celery, flows / "held.py", work={"queue": "default"})
    (folder / "hold").touch()
    held = Held(celery.airflow.start("HeldFlow", "HeldFlow", {"folder": str(folder)}), folder)
    wait_until(lambda: len(held.notes()) == 6, timeout=300, pause=0.5)
    assert {host for _, _, host in held.notes()} == {"one", "two"}
    return held


def check(celery: CeleryAirflow, held: Held) -> None:
    """See that the run has ended with each artifact as it should be, once."""
    held.run.wait()
    found = celery.artifacts(held.run)
    assert {step: len(tasks) for step, tasks in found.items()} == {"start": 1, "work": 6, "join": 1, "end": 1}
    assert [found["work"][((index,), ())]["value"] for index in range(6)] == [0, 10, 20, 30, 40, 50]
    assert found["join"][((), ())]["values"] == [0, 10, 20, 30, 40, 50]


def test_the_tasks_of_a_host_that_fails_are_done_again_elsewhere_and_those_of_the_other_are_not(
    celery: CeleryAirflow, flows: Path, tmp_path: Path
) -> None:
    held = hold(celery, flows, tmp_path)
    begun = held.notes()
    celery.workers["one"].kill()
    held.release()
    celery.start("one")
    check(celery, held)
    again = [(index, attempt) for index, attempt, _ in held.notes() if attempt]
    assert again == [(index, 1) for index, _, host in begun if host == "one"]


def test_a_worker_that_is_asked_to_end_ends_after_its_tasks_and_loses_none(
    celery: CeleryAirflow, flows: Path, tmp_path: Path
) -> None:
    held = hold(celery, flows, tmp_path)
    worker = celery.workers["one"]
    worker.terminate()
    wait_until(lambda: "Warm shutdown" in worker.log(), pause=0.2)
    held.release()
    worker.wait()
    celery.start("one")
    check(celery, held)
    assert [attempt for _, attempt, _ in held.notes()] == [0] * 6


def test_a_broker_that_is_away_in_the_middle_of_a_run_costs_no_task_a_second_try(
    celery: CeleryAirflow, flows: Path, tmp_path: Path
) -> None:
    held = hold(celery, flows, tmp_path)
    celery.broker.kill()
    held.release()
    # The tasks end meanwhile: what they report goes to Airflow, not to the broker.
    wait_until(lambda: held.run.states().get("work") == {"success"}, timeout=120)
    celery.broker.start()
    check(celery, held)
    assert [attempt for _, attempt, _ in held.notes()] == [0] * 6
