"""Artifacts whose pickles run code, put where a task has stored its results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from metaflow.datastore import FlowDataStore
from metaflow.plugins import DATASTORES


class Payload:
    """Writes the environment of the process that unpickles it into a file."""

    def __init__(self, file: Path) -> None:
        self._file = str(file)

    def __reduce__(self) -> tuple[Any, ...]:
        code = f"open({self._file!r}, 'w').write(repr(dict(__import__('os').environ)))"
        return eval, (code,)


def poison(root: Path, pathspec: str, file: Path) -> None:
    """Replace all artifacts of a finished task, Metaflow's own and the user's, by the payload.

    :param root: root of the local datastore, ``….metaflow``.
    :param pathspec: ``Flow/run/step/task``.
    :param file: what the payload writes.
    """
    flow, run, step, task = pathspec.split("/")
    local = next(one for one in DATASTORES if one.TYPE == "local")
    store = FlowDataStore(flow, None, storage_impl=local, ds_root=str(root))
    made = store.get_task_datastore(run, step, task, attempt=0, mode="w")
    made.save_artifacts(iter([("payload", Payload(file))]), len_hint=1)
    key, info = made.ds_metadata["objects"]["payload"], made.ds_metadata["info"]["payload"]
    for data_file in (root / flow / run / step / task).glob("*.data.json"):
        data = json.loads(data_file.read_text())
        data["objects"] = dict.fromkeys(data["objects"], key)
        data["info"] = {name: {**known, "encoding": info["encoding"]} for name, known in data["info"].items()}
        _write(data_file, data)
    # The index of the local metadata provider has the keys, too.
    for artifact_file in (root / flow / run / step / task / "_meta").glob("*_artifact_*.json"):
        _write(artifact_file, {**json.loads(artifact_file.read_text()), "sha": key})


def _write(file: Path, content: Any) -> None:
    temporary = file.with_name(file.name + ".new")
    temporary.write_text(json.dumps(content))
    temporary.replace(file)


def assert_poisoned(root: Path, pathspec: str, file: Path) -> None:
    """Check that unpickling the task's state would run the payload, so that a test with it proves something."""
    flow, run, step, task = pathspec.split("/")
    local = next(one for one in DATASTORES if one.TYPE == "local")
    store = FlowDataStore(flow, None, storage_impl=local, ds_root=str(root))
    store.get_task_datastore(run, step, task).get("_task_ok")
    assert file.exists()
    file.unlink()
