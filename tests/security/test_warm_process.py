"""The process that is kept between tasks hands nothing of one step to another."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.support.environment import environment_variable

from airflow_provider_metaflow.compute.local.processes import LocalCompute
from metaflow_orchestration.compile.compiler import CompileOptions, load_manifest
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.run.commands import StepCall, parameters_path

FLOW = """
import json, os
from metaflow import FlowSpec, step

class KeysFlow(FlowSpec):
    @step
    def start(self):
        try:
            import boto3
            print("boto3", boto3.client("s3", region_name="us-east-1")._request_signer._credentials.access_key)
        except ImportError:
            print("boto3", os.environ.get("AWS_ACCESS_KEY_ID"))
        print("environment", json.dumps(dict(os.environ)))
        self.next(self.end)

    @step
    def end(self):
        pass

if __name__ == "__main__":
    KeysFlow()
"""

# Writes down with whose variables a log is saved.
SPY = """
import os, sys
from importlib.abc import MetaPathFinder

class Spy(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "metaflow.mflog":
            sys.meta_path.remove(self)
            from metaflow.datastore.task_datastore import TaskDataStore
            save = TaskDataStore.save_logs
            def save_logs(self, *given, **named):
                with open(os.environ["SPY_FILE"], "a") as file:
                    print("save", os.environ.get("WHO"), os.environ.get("AWS_ACCESS_KEY_ID"), file=file)
                return save(self, *given, **named)
            TaskDataStore.save_logs = save_logs
        return None

sys.meta_path.insert(0, Spy())
"""


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    root = tmp_path_factory.mktemp("keys")
    (root / "flow").mkdir()
    (root / "flow" / "keys.py").write_text(FLOW)
    with environment_variable("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(root)):
        return load_manifest(root / "flow" / "keys.py", CompileOptions(python=sys.executable), root / "cache")


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A worker with a warm process of its own, which writes down with whose rights logs are saved."""
    (tmp_path / "spy").mkdir()
    (tmp_path / "spy" / "usercustomize.py").write_text(SPY)
    (tmp_path / "spy" / "sitecustomize.py").write_text(SPY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "spy"))
    monkeypatch.setenv("SPY_FILE", str(tmp_path / "spied"))
    monkeypatch.setenv("AIRFLOW_CTX_DAG_RUN_ID", "the first run")
    monkeypatch.setenv("METAFLOW_TEST_WORKER", str(tmp_path))
    return tmp_path


def run(manifest: Manifest, run_id: str, environment: dict[str, str], **more: Any) -> list[str]:
    """Run a step with variables of its own; return what it printed."""
    lines: list[str] = []
    options: dict[str, Any] = {
        "manifest": manifest,
        "code": manifest.code,
        "cache": Path(manifest.command.datastore_root).parent / "cache",
        "python": sys.executable,
        "warm": True,
        # Long enough for two steps one after the other on a busy machine.
        "idle_seconds": 20.0,
        "links": {},
        "variables": {},
        "on_line": lambda _, text: lines.append(text),
        **more,
    }
    step = replace(manifest.graph.step("start"), environment=tuple(environment.items()))
    with LocalCompute(**options) as compute:
        compute.probe("start", run_id, ["t"])
        inputs = (parameters_path(run_id),)
        compute.run(StepCall(step=step, run_id=run_id, task_id="t", attempt=0, max_user_retries=0, inputs=inputs), {})
    return lines


def servers(worker: Path) -> dict[int, bytes]:
    """Return the environments of the warm processes of a worker, by process id."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment, command = (folder / "environ").read_bytes(), (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if f"METAFLOW_TEST_WORKER={worker}\0".encode() in environment and b"--serve" in command:
            found[int(folder.name)] = environment
    return found


FIRST = {"WHO": "first", "AWS_ACCESS_KEY_ID": "key-of-first", "AWS_SECRET_ACCESS_KEY": "s1", "ONLY_FIRST": "secret-1"}
SECOND = {"WHO": "second", "AWS_ACCESS_KEY_ID": "key-of-second", "AWS_SECRET_ACCESS_KEY": "s2"}


def test_a_step_sees_no_variable_and_no_cloud_key_of_the_step_before_in_the_same_process(
    manifest: Manifest, worker: Path
) -> None:
    first = run(manifest, f"r1-{worker.name}", FIRST, variables={"AIRFLOW_CTX_DAG_RUN_ID": "the first run"})
    assert "boto3 key-of-first" in first
    (server,) = servers(worker)
    second = run(manifest, f"r2-{worker.name}", SECOND)
    assert list(servers(worker)) == [server], "the process was kept"
    assert "boto3 key-of-second" in second
    assert "secret-1" not in str(second)
    # And a step without keys of its own has those of the worker.
    third = run(manifest, f"r3-{worker.name}", {})
    assert f"boto3 {os.environ['AWS_ACCESS_KEY_ID']}" in third
    assert "key-of" not in str(third)


def test_the_process_is_started_with_no_variable_of_a_step_or_of_a_run(manifest: Manifest, worker: Path) -> None:
    of_run = {"METAFLOW_ORCHESTRATOR_TRIGGERS": "[]", "AIRFLOW_CTX_X": "run-1"}
    run(manifest, f"r1-{worker.name}", FIRST, variables=of_run)
    (environment,) = servers(worker).values()
    for of_a_step in (b"first", b"secret-1", b"s1\0", b"METAFLOW_ORCHESTRATOR", b"AIRFLOW_CTX", b"METAFLOW_RUN_ID"):
        assert of_a_step not in environment
    assert b"SPY_FILE=" in environment


def test_the_log_of_each_step_is_saved_with_its_own_keys(manifest: Manifest, worker: Path) -> None:
    run(manifest, f"r1-{worker.name}", FIRST)
    run(manifest, f"r2-{worker.name}", SECOND)
    spied = (worker / "spied").read_text().splitlines()
    assert set(spied) == {"save first key-of-first", "save second key-of-second"}


def test_variables_that_shape_the_process_get_a_process_of_their_own(manifest: Manifest, worker: Path) -> None:
    run(manifest, f"r1-{worker.name}", {"METAFLOW_S3_ENDPOINT_URL": "http://one"})
    run(manifest, f"r2-{worker.name}", {"METAFLOW_S3_ENDPOINT_URL": "http://two"})
    started = list(servers(worker).values())
    assert [sum(b"http://%s\0" % name in one for one in started) for name in (b"one", b"two")] == [1, 1]
