"""The overview of a run: which tasks it has, and what is shown of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_metaflow.reading.index import TooLargeError, metadatum
from airflow_provider_metaflow.reading.local_files import LocalFiles
from airflow_provider_metaflow.reading.questions import Reader


class Datastore:
    """A local datastore with one run of a flow, `F/1`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._write("F/1/_meta/_self.json", {"tags": ["mine"]})

    def _write(self, path: str, document: Any) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(document))

    def task(self, step: str, name: str, attempt: int = 0, *, ok: bool = True, **summary: Any) -> None:
        """Add a task with its last attempt."""
        folder = f"F/1/{step}/{name}"
        self._write(f"F/1/{step}/_meta/_self.json", {"ts_epoch": 1})
        self._write(f"{folder}/_meta/_self.json", {})
        for field, value in (("attempt", attempt), ("attempt-done", attempt), ("attempt_ok", ok)):
            tags = [f"attempt_id:{attempt}"]
            self._write(
                f"{folder}/_meta/sysmeta_{field}_{attempt}.json",
                {"field_name": field, "value": str(value), "tags": tags, "ts_epoch": attempt},
            )
        document = {"version": 1, "ok": ok, "artifacts": {}, **summary}
        self._write(f"{folder}/{attempt}.orchestrator_summary.json", document)

    def overview(self, **question: Any) -> Any:
        files = LocalFiles(str(self.root), TooLargeError, metadatum)
        return Reader(files, files).answer({"op": "overview", "pathspec": "F/1", **question})


@pytest.fixture
def datastore(tmp_path: Path) -> Datastore:
    return Datastore(tmp_path)


def test_artifacts_have_previews_but_for_those_that_look_secret(datastore: Datastore) -> None:
    artifacts = {
        "rows": {"type": "list", "size": 9, "value": [1, 2]},
        "api_key": {"type": "str", "size": 9, "value": "x"},
        "model": {"type": "sklearn.X", "size": 999},
    }
    datastore.task("start", "t-start", artifacts=artifacts, parameters=["api_key", "rows"])
    found = datastore.overview()
    (task,) = found["steps"][0]["tasks"]
    assert {one["name"]: (one["preview"], one["hidden"]) for one in task["artifacts"]} == {
        "rows": ("[1, 2]", False),
        "api_key": (None, True),
        "model": (None, False),
    }
    assert found["parameters"] == {"api_key": "(hidden: it looks like a secret)", "rows": "[1, 2]"}


def test_a_failed_task_has_its_attempt_and_error(datastore: Datastore) -> None:
    datastore.task("start", "t-start", 2, ok=False, error={"type": "ValueError", "message": "no rows\u202e"})
    (task,) = datastore.overview()["steps"][0]["tasks"]
    assert (task["successful"], task["attempt"]) == (False, 2)
    assert task["error"] == {"type": "ValueError", "message": "no rows\\u202e"}


@pytest.mark.parametrize("error", [None, "text", {"type": 1, "message": "password=hunter2"}])
def test_an_error_that_no_task_of_ours_wrote_or_that_holds_a_secret_is_not_shown(
    datastore: Datastore, error: Any
) -> None:
    datastore.task("start", "t-start", ok=False, error=error)
    (task,) = datastore.overview()["steps"][0]["tasks"]
    assert "hunter2" not in json.dumps(task)
    assert (task["error"] is None) == (not isinstance(error, dict))


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (["t-s-1"], ["t-s-1", "t-s-1-g1", "t-s-1-r2", "t-s-1-r2-g1"]),
        (["t-s-10"], ["t-s-10", "t-s-10_node_1"]),
        (["t-s-2"], []),
        ([], []),
        (None, ["t-s-1", "t-s-1-g1", "t-s-1-r2", "t-s-1-r2-g1", "t-s-10", "t-s-10_node_1"]),
    ],
)
def test_only_the_tasks_that_are_asked_for_are_described(
    datastore: Datastore, wanted: list[str] | None, found: list[str]
) -> None:
    for name in ("t-s-1", "t-s-1-g1", "t-s-1-r2", "t-s-1-r2-g1", "t-s-10", "t-s-10_node_1"):
        datastore.task("s", name)
    answer = datastore.overview(step="s", **({} if wanted is None else {"tasks": wanted}))
    assert sorted(one["task"] for one in answer["steps"][0]["tasks"]) == found
