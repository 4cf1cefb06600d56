"""What a run has produced, read through Metaflow's datastore, in a form that two runs can be compared by."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from metaflow.datastore import FlowDataStore
from metaflow.plugins import DATASTORES

from tests.harness.builds import FOLDER

from .interpreter import python

Key = tuple[tuple[int, ...], tuple[int, ...]]
Results = dict[str, dict[Key, dict[str, Any]]]
_LOCAL = next(d for d in DATASTORES if d.TYPE == "local")


def artifacts(
    root: Path | str, flow: str, run_id: str, *, kind: str = "s3", environment: Mapping[str, str] | None = None
) -> Results:
    """Return the user's artifacts of a run by step, and there by index path and iteration.

    The root is a folder, or the root of an object store, which `environment` says how to reach.
    """
    if isinstance(root, Path):
        return _of_folder(root, flow, run_id)
    script = "import pickle, sys; from tests.support.results import of_store; "
    script += "sys.stdout.buffer.write(pickle.dumps(of_store(*sys.argv[1:])))"
    # Metaflow reads how to reach a store when it is imported.
    result = subprocess.run(
        [python(), "-c", script, kind, root, flow, run_id],
        cwd=Path(__file__).parent.parent.parent,
        capture_output=True,
        env={**os.environ, **(environment or {})},
    )
    assert result.returncode == 0, result.stderr.decode()
    found: Results = pickle.loads(result.stdout)
    return found


def of_store(kind: str, root: str, flow: str, run_id: str) -> Results:
    """Return the same of a run in an object store; in a process of its own."""
    implementation = next(one for one in DATASTORES if kind == one.TYPE)
    store = FlowDataStore(flow, None, storage_impl=implementation, ds_root=root)
    results: Results = {}
    for task in store.get_task_datastores(run_id):
        if not task.step_name.startswith("_"):
            _add(results, task.step_name, task.task_id, task)
    return results


def _of_folder(sysroot: Path, flow: str, run_id: str) -> Results:
    store = FlowDataStore(flow, None, storage_impl=_LOCAL, ds_root=str(sysroot / ".metaflow"))
    results: Results = {}
    # A task is known by its folder; the deepest attempt that is done counts, as for Metaflow's client.
    for step_folder in sorted((sysroot / ".metaflow" / flow / run_id).iterdir()):
        if step_folder.name.startswith("_"):
            continue
        for task_folder in sorted(step_folder.iterdir()):
            if task_folder.name.startswith("_"):
                continue
            task = store.get_task_datastore(run_id, step_folder.name, task_folder.name)
            _add(results, step_folder.name, task_folder.name, task)
    return results


def _add(results: Results, step: str, task_id: str, task: Any) -> None:
    indexes = tuple(frame.index for frame in task.get("_foreach_stack") or ())
    iterations = tuple(task.get("_iteration_stack") or ())
    key = (indexes, iterations)
    found = results.setdefault(step, {})
    # Only a task that was cleared beyond six attempts has a second id, with a generation; it sorts last.
    assert key not in found or "-g" in task_id, f"{step}{key} has two tasks"
    found[key] = {name: value for name, value in task.to_dict().items() if name not in ("name", "input")}


def run_locally(flow_file: Path, sysroot: Path, *arguments: str, top: tuple[str, ...] = ()) -> str:
    """Run a flow with Metaflow's own local scheduler and return the run id."""
    id_file = sysroot / f"{flow_file.stem}-{os.getpid()}.id"
    result = subprocess.run(
        [
            sys.executable,
            flow_file.name,
            "--quiet",
            "--no-pylint",
            *top,
            "run",
            "--run-id-file",
            str(id_file),
            *arguments,
        ],
        cwd=flow_file.parent,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            # Whatever the Airflow of the test keeps its runs in.
            "METAFLOW_DEFAULT_DATASTORE": "local",
            "METAFLOW_DEFAULT_METADATA": "local",
            "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(sysroot),
            # Metaflow starts the workers of a gang as `python`.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        },
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return id_file.read_text().strip()


@cache
def local_artifacts(flow_file: Path, flow: str, *arguments: str) -> Results:
    """Return the artifacts of a run by Metaflow's own local scheduler, which is run once for all targets.

    `make test` has a folder for what its workers share.
    """
    shared = os.environ.get(FOLDER)
    if shared is None:
        return _run_for_artifacts(flow_file, flow, *arguments)
    called = hashlib.sha256("\0".join((str(flow_file), flow, *arguments)).encode()).hexdigest()
    kept = Path(shared) / f"local-run-{called}"
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            kept.write_bytes(pickle.dumps(_run_for_artifacts(flow_file, flow, *arguments)))
        found: Results = pickle.loads(kept.read_bytes())
        return found


def _run_for_artifacts(flow_file: Path, flow: str, *arguments: str) -> Results:
    with tempfile.TemporaryDirectory() as root:
        run_id = run_locally(flow_file, Path(root), *arguments)
        return artifacts(Path(root), flow, run_id)
