"""In what two runs differ: by step and path in foreaches, never by ids of an orchestrator."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from metaflow_orchestration.compare.model import Comparison, Kind, RunRecord, TaskKey, TaskRecord, compare_runs
from metaflow_orchestration.compare.table import render

START: TaskKey = ("start", "", 0)
TRAIN: TaskKey = ("train", "train:3", 0)


def run(**changed: TaskRecord) -> RunRecord:
    tasks = {
        START: TaskRecord(artifacts={"alpha": "a1"}),
        TRAIN: TaskRecord(artifacts={"model": "m1"}, parents=frozenset({START}), stdout=("one", "two")),
    }
    tasks |= {key: changed[key[0]] for key in tasks if key[0] in changed}
    return RunRecord(pathspec="Flow/1", tags=frozenset(), system_tags=frozenset(), code="", tasks=tasks)


def kinds(found: Comparison) -> list[tuple[Kind, str, str, str | None, str | None]]:
    return [(one.kind, one.where, one.name, one.left, one.right) for one in found.differences]


def test_runs_with_equal_content_do_not_differ_whatever_made_them() -> None:
    local = replace(run(), system_tags=frozenset({"runtime:dev"}))
    found = compare_runs(local, replace(run(), pathspec="Flow/airflow-1", system_tags=frozenset({"runtime:airflow"})))
    assert (found.tasks, found.artifacts, found.exit_code) == (2, 2, 0)
    assert {one.kind for one in found.differences} == {Kind.SYSTEM_TAG}
    assert "0 differences beside those of any two runs" in render(found)


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        (TaskRecord(artifacts={"model": "m2"}), (Kind.ARTIFACT, "train[train:3]", "model", "m1", "m2")),
        (TaskRecord(artifacts={}), (Kind.ARTIFACT, "train[train:3]", "model", "m1", None)),
        (TaskRecord(artifacts={}, parents=frozenset()), (Kind.LINEAGE, "train[train:3]", "parents", "start", "")),
        (TaskRecord(artifacts={}, origin="Flow/0/train/7"),
         (Kind.LINEAGE, "train[train:3]", "origin", None, "Flow/0/train/7")),
        (TaskRecord(artifacts={}, succeeded=False), (Kind.RESULT, "train[train:3]", "task", "succeeded", "failed")),
        (TaskRecord(artifacts={}, stdout=("one", "2")), (Kind.LOG, "train[train:3]", "stdout line 2", "two", "2")),
        (TaskRecord(artifacts={}, stdout=("one",)), (Kind.LOG, "train[train:3]", "stdout line 2", "two", None)),
        (TaskRecord(artifacts={}, stderr=("oh",)), (Kind.LOG, "train[train:3]", "stderr line 1", None, "oh")),
    ],
)  # fmt: skip
def test_a_difference_of_a_task_is_named(
    train: TaskRecord, expected: tuple[Kind, str, str, str | None, str | None]
) -> None:
    found = compare_runs(run(), run(train=train))
    assert expected in kinds(found)
    assert found.exit_code == 1


def test_tags_code_and_missing_tasks_are_named() -> None:
    left = replace(run(), tags=frozenset({"a", "b"}), code="c1")
    right = replace(run(), tags=frozenset({"b"}), code="c2", tasks={START: run().tasks[START]})
    assert kinds(compare_runs(left, right)) == [
        (Kind.TASK, "train[train:3]", "task", "ran", None),
        (Kind.TAG, "run", "a", "a", None),
        (Kind.CODE, "run", "code package", "c1", "c2"),
    ]
    # A local run has no package to compare.
    assert compare_runs(left, replace(left, code="")).exit_code == 0


def test_values_count_where_hashes_differ_if_they_are_asked_for() -> None:
    asked: list[tuple[TaskKey, str]] = []

    def equal(key: TaskKey, name: str) -> bool:
        asked.append((key, name))
        return True

    other = run(train=replace(run().tasks[TRAIN], artifacts={"model": "m2"}))
    assert compare_runs(run(), other, equal).exit_code == 0
    assert asked == [(TRAIN, "model")]


def test_a_run_that_has_not_ended_is_named() -> None:
    found = compare_runs(run(), replace(run(), pathspec="Flow/2", finished=False))
    assert found.unfinished == ("Flow/2",)
    assert "The end step of Flow/2 has not ended" in render(found)


def test_json_holds_the_version() -> None:
    document = json.loads(compare_runs(run(), run(start=TaskRecord(artifacts={"alpha": "a2"}))).to_json())
    assert (document["version"], document["differences"][0]["where"]) == (1, "start")
