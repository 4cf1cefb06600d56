"""What a try has done before a deferral, and what is kept of it at the next one."""

from __future__ import annotations

import pytest

from airflow_provider_metaflow.compute.remote import Progress
from airflow_provider_metaflow.execution.tasks.progress import TryProgress
from metaflow_orchestration.exceptions import FinalFailureError, StepFailedError


def test_a_try_that_was_not_deferred_has_done_nothing() -> None:
    progress = TryProgress()
    assert (progress.is_resumed, progress.run_id, progress.iteration, progress.has_old_ids) == (False, "", 0, False)
    assert (progress.done, progress.failed, progress.finals, progress.is_final) == ({}, {}, set(), False)
    assert progress.take_event("t-body-0", is_array=True) is None


def test_what_was_done_comes_through_another_deferral() -> None:
    progress = TryProgress()
    progress.done["t-body-0"] = {"task_id": "t-body-0"}
    progress.add_failure("t-body-1", StepFailedError("it fell"))
    progress.add_failure("t-body-2", FinalFailureError("it wants no other"))
    kept = progress.at("t-body-3", 2, "run").to_json()
    again = TryProgress(Progress(**kept))
    assert (again.is_resumed, again.run_id, again.iteration) == (True, "run", 2)
    assert (again.done, again.failed, again.finals) == (progress.done, progress.failed, {"t-body-2"})
    assert again.at("t-body-3", 2, "run").to_json() == kept


@pytest.mark.parametrize(("failures", "expected"), [([StepFailedError], False), ([FinalFailureError], True)])
def test_a_pack_wants_no_other_attempt_if_none_of_its_failed_tasks_does(
    failures: list[type[StepFailedError]], expected: bool
) -> None:
    progress = TryProgress()
    for number, kind in enumerate([FinalFailureError, *failures]):
        progress.add_failure(f"t-body-{number}", kind("it fell"))
    assert progress.is_final is expected


@pytest.mark.parametrize(("final", "expected"), [(True, {"t-0"}), (False, set())])
def test_of_a_release_that_kept_no_names_all_failures_were_final_or_none(final: bool, expected: set[str]) -> None:
    assert TryProgress(Progress("t-1", failed={"t-0": "it fell"}, final=final)).finals == expected


def test_an_event_is_for_the_task_that_was_waited_for_and_is_taken_once() -> None:
    event = {"state": "success"}
    progress = TryProgress(Progress("t-body-1"), event)
    assert progress.take_event("t-body-0", is_array=False) is None
    assert progress.take_event("t-body-1", is_array=False) == event
    assert progress.take_event("t-body-1", is_array=False) is None
    # Of an array, another task may be the first that has no result now.
    assert TryProgress(Progress("t-body-1"), event).take_event("t-body-2", is_array=True) == event
