"""Steps as local processes, without Airflow: isolation, logs, failures, and nothing left behind."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.support.environment import environment_variable

from airflow_provider_metaflow.compute.local import warm_runner
from airflow_provider_metaflow.compute.local.answers import DoneAnswer
from airflow_provider_metaflow.compute.local.code import unpacked
from airflow_provider_metaflow.compute.local.processes import LocalCompute
from airflow_provider_metaflow.compute.local.runner import Runner
from airflow_provider_metaflow.compute.local.runner_process import RunnerSettings
from metaflow_orchestration.compile.compiler import CompileOptions, load_manifest
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import FinalFailureError, StepFailedError, StepNotRunnableError
from metaflow_orchestration.run.commands import StepCall, parameters_path

pytestmark = pytest.mark.subprocess

FLOW = """
import os, random, subprocess, sys, time
from metaflow import FlowSpec, step

class ProbeFlow(FlowSpec):
    @step
    def start(self):
        self.pid = os.getpid()
        self.random = random.random()
        self.leaked = getattr(sys, "leak", None)
        sys.leak = "from another task"
        os.environ["LEAK"] = "x"
        print("hello from", self.pid)
        mode = os.environ.get("MODE")
        if mode == "hang":
            subprocess.Popen(["sleep", "1000"])
            open(os.environ["FLAG"], "w").write(str(os.getpid()))
            time.sleep(1000)
        if mode == "full":
            raise OSError(28, "No space left on device")
        if mode == "exit":
            os._exit(7)
        if mode == "final":
            sys.exit(202)
        self.next(self.end)

    @step
    def end(self):
        pass

if __name__ == "__main__":
    ProbeFlow()
"""


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    root = tmp_path_factory.mktemp("probe")
    (root / "flow").mkdir()
    (root / "flow" / "probe.py").write_text(FLOW)
    with environment_variable("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(root)):
        return load_manifest(root / "flow" / "probe.py", CompileOptions(python=sys.executable), root / "cache")


class Made:
    """A compute and the lines that its tasks wrote."""

    def __init__(self, manifest: Manifest, *, warm: bool, **more: Any) -> None:
        self.lines: list[str] = []
        options: dict[str, Any] = {
            "manifest": manifest,
            "code": manifest.code,
            "cache": Path(manifest.command.datastore_root).parent / "cache",
            "python": sys.executable,
            "warm": warm,
            "idle_seconds": 3.0,
            "links": {"airflow-dag-id": "x"},
            "variables": {},
            "on_line": lambda _, text: self.lines.append(text),
            **more,
        }
        self.compute = LocalCompute(**options)

    def run(self, one: StepCall) -> dict[str, Any]:
        with self.compute:
            return self.compute.run(one, {})


@pytest.fixture(params=[True, False], ids=["warm", "cold"])
def make(request: pytest.FixtureRequest, manifest: Manifest) -> Callable[..., Made]:
    return lambda **more: Made(**{"manifest": manifest, "warm": request.param, **more})


def call(manifest: Manifest, run_id: str, **more: Any) -> StepCall:
    options: dict[str, Any] = {
        "step": manifest.graph.step("start"),
        "run_id": run_id,
        "task_id": "t",
        "attempt": 0,
        "max_user_retries": 0,
        "inputs": (parameters_path(run_id),),
        **more,
    }
    return StepCall(**options)


def artifact(manifest: Manifest, run_id: str, name: str) -> Any:
    from metaflow.datastore import FlowDataStore
    from metaflow.plugins import DATASTORES

    local = next(d for d in DATASTORES if d.TYPE == "local")
    store = FlowDataStore("ProbeFlow", None, storage_impl=local, ds_root=manifest.command.datastore_root)
    return store.get_task_datastore(run_id, "start", "t")[name]


Make = Callable[..., Made]


def test_a_step_tells_its_outcome_and_its_output(make: Make, manifest: Manifest, tmp_path: Path) -> None:
    made = make()
    outcome = made.run(call(manifest, f"r-{tmp_path.name}"))
    assert outcome == {"task_id": "t", "attempt": 0, "next": ["end"]}
    assert made.lines == [f"hello from {artifact(manifest, f'r-{tmp_path.name}', 'pid')}"]


def test_the_datastore_tells_whether_a_run_has_begun_and_keeps_the_record_of_a_dag_run(
    make: Make, manifest: Manifest, tmp_path: Path
) -> None:
    made, run = make(), f"r-{tmp_path.name}"
    with made.compute as compute:
        assert (compute.has_run(run), compute.load_record(run)) == (False, None)
        compute.save_record(run, {"runs": [1]})
        assert (compute.has_run(run), compute.load_record(run)) == (False, {"runs": [1]})
        compute.save_record(run, {"runs": [1, 2]})
        compute.run(call(manifest, run), {})
        assert (compute.has_run(run), compute.load_record(run)) == (True, {"runs": [1, 2]})
        assert compute.load_record(f"{run}-2") is None


def test_tasks_share_no_state(make: Make, manifest: Manifest, tmp_path: Path) -> None:
    runs = [f"r-{tmp_path.name}-{number}" for number in range(2)]
    for run in runs:
        make().run(call(manifest, run))
    assert [artifact(manifest, run, "leaked") for run in runs] == [None, None]
    assert len({artifact(manifest, run, "pid") for run in runs}) == 2
    assert len({artifact(manifest, run, "random") for run in runs}) == 2
    assert "LEAK" not in os.environ


def test_a_disk_that_is_full_in_the_middle_of_a_step_fails_it_with_the_reason(
    make: Make, manifest: Manifest, tmp_path: Path
) -> None:
    made = make(variables={"MODE": "full"})
    with pytest.raises(StepFailedError, match=r"flow ProbeFlow step start: task .*/start/t, attempt 0, failed"):
        made.run(call(manifest, f"r-{tmp_path.name}"))
    assert any("No space left on device" in line for line in made.lines)


def test_the_exit_status_of_a_step_is_told(make: Make, manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(StepFailedError, match="failed with exit code 7"):
        make(variables={"MODE": "exit"}).run(call(manifest, f"r-{tmp_path.name}"))


def test_a_step_that_asks_for_no_further_attempt_fails_for_good(make: Make, manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(FinalFailureError, match="exit code 202, which asks for no further attempt"):
        make(variables={"MODE": "final"}).run(call(manifest, f"r-{tmp_path.name}"))


def hang(make: Make, manifest: Manifest, tmp_path: Path) -> tuple[Made, threading.Thread, int, list[BaseException]]:
    flag = tmp_path / "flag"
    made = make(variables={"MODE": "hang", "FLAG": str(flag)})
    errors: list[BaseException] = []

    def run() -> None:
        try:
            made.compute.run(call(manifest, f"r-{tmp_path.name}"), {})
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    end = time.monotonic() + 60
    while not (flag.exists() and flag.read_text()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return made, thread, int(flag.read_text()), errors


def group_is_gone(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return True
    return False


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_hanging_up_kills_the_task_and_its_children(make: Make, manifest: Manifest, tmp_path: Path) -> None:
    made, thread, pid, errors = hang(make, manifest, tmp_path)
    made.compute.close()
    thread.join(30)
    wait_for(lambda: group_is_gone(pid))
    assert isinstance(errors[0], (StepFailedError, StepNotRunnableError, ValueError, OSError))


def test_a_step_killed_from_outside_is_told_with_the_signal(make: Make, manifest: Manifest, tmp_path: Path) -> None:
    made, thread, pid, errors = hang(make, manifest, tmp_path)
    os.kill(pid, signal.SIGKILL)
    thread.join(30)
    made.compute.close()
    assert "was killed by signal 9" in str(errors[0])
    wait_for(lambda: group_is_gone(pid))


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_step_ends_with_the_process_that_watches_it(
    make: Make, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would go on beside the next try."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made, thread, pid, errors = hang(make, manifest, tmp_path)
    os.kill(parent_of(pid), signal.SIGKILL)
    thread.join(30)
    wait_for(lambda: not Path(f"/proc/{pid}/exe").exists())
    assert "ended without an answer" in str(errors[0])
    made.compute.close()
    assert not list(tmp_path.glob("metaflow-task-*"))
    # What the step has started itself, which only a watcher could end with it.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


WORKER = """
import pickle, sys
from airflow_provider_metaflow.compute.local.processes import LocalCompute
options, call = pickle.load(sys.stdin.buffer)
with LocalCompute(**options, on_line=lambda stream, text: None) as compute:
    compute.run(call, {})
"""


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
def test_a_worker_that_is_killed_leaves_no_process_and_no_folder(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm: bool
) -> None:
    flag, temporary = tmp_path / "flag", tmp_path / "t"
    temporary.mkdir()
    made = Made(manifest, warm=warm, variables={"MODE": "hang", "FLAG": str(flag)})
    names = [one.name for one in dataclasses.fields(LocalCompute) if one.name[0] != "_" and one.name != "on_line"]
    given = pickle.dumps(({name: getattr(made.compute, name) for name in names}, call(manifest, f"r-{tmp_path.name}")))
    # A warm process that is kept has its folder from who started it.
    environment = {**os.environ, "TMPDIR": str(temporary)}
    worker = subprocess.Popen([sys.executable, "-c", WORKER], stdin=subprocess.PIPE, env=environment)
    assert worker.stdin is not None
    worker.stdin.write(given)
    worker.stdin.close()
    wait_for(lambda: flag.exists() and bool(flag.read_text()))
    assert len(list(temporary.glob("metaflow-task-*"))) == 1
    worker.kill()
    worker.wait()
    wait_for(lambda: group_is_gone(int(flag.read_text())))
    wait_for(lambda: not list(temporary.glob("metaflow-task-*")))


def test_a_warm_process_exits_when_it_is_idle(manifest: Manifest, tmp_path: Path) -> None:
    made = Made(manifest, warm=True, idle_seconds=0.5, variables={"METAFLOW_TEST_KEY": tmp_path.name})
    made.run(call(manifest, f"r-{tmp_path.name}"))

    def servers() -> list[str]:
        found = []
        for process in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if tmp_path.name.encode() in (process / "environ").read_bytes() and process.name != str(os.getpid()):
                    found.append(process.name)
        return found

    assert servers()
    wait_for(lambda: not servers())


def test_a_worker_without_metaflow_gets_one_clear_message(manifest: Manifest, tmp_path: Path) -> None:
    with unpacked(manifest.code, tmp_path, manifest.command.datastore_root) as root:
        (root / ".mf_code" / "metaflow" / "__init__.py").write_text("raise ImportError('no metaflow on this worker')")
    made = Made(manifest, warm=False, cache=tmp_path, python=sys.executable)
    with pytest.raises(StepNotRunnableError, match=r"(?s)ended without an answer.*no metaflow on this worker.*import"):
        made.run(call(manifest, f"r-{tmp_path.name}"))


def test_a_missing_interpreter_gets_one_clear_message(manifest: Manifest, tmp_path: Path) -> None:
    made = Made(manifest, warm=False, python="/no/python")
    with pytest.raises(StepNotRunnableError, match="interpreter '/no/python' cannot be started"):
        made.run(call(manifest, f"r-{tmp_path.name}"))


def test_a_code_package_that_is_gone_is_told_by_name_and_leaves_nothing(manifest: Manifest, tmp_path: Path) -> None:
    gone = replace(manifest.code, url=str(tmp_path / "gone"))
    with pytest.raises(StepNotRunnableError, match=r"code package .*gone cannot be unpacked"):
        with unpacked(gone, tmp_path / "cache", manifest.command.datastore_root):
            pass
    assert not [path for path in (tmp_path / "cache" / "code").iterdir() if path.suffix != ".lock"]


def test_a_code_package_is_unpacked_once(manifest: Manifest, tmp_path: Path) -> None:
    with unpacked(manifest.code, tmp_path, manifest.command.datastore_root) as first:
        before = first.stat().st_mtime_ns
    with unpacked(manifest.code, tmp_path, manifest.command.datastore_root) as second:
        assert second == first
    assert first.stat().st_mtime_ns == before
    assert (first / "probe.py").read_text() == FLOW


def test_a_flow_is_compiled_and_run_where_python_takes_no_code_from_its_working_directory(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(tmp_path))
    flow = tmp_path / "flow/probe.py"
    flow.parent.mkdir()
    flow.write_text(FLOW.replace("import os,", "import helper, os,"))
    (flow.parent / "helper.py").write_text("")
    manifest = load_manifest(flow, CompileOptions(python=sys.executable), tmp_path / "cache")
    made = make(manifest=manifest, code=manifest.code, cache=tmp_path / "cache")
    assert made.run(call(manifest, "r"))["task_id"] == "t"


def test_a_client_that_comes_when_the_warm_process_exits_starts_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm_runner, "_socket_folder", lambda: tmp_path)
    monkeypatch.setattr(warm_runner, "_key", lambda settings: "key")
    exiting = socket.socket(socket.AF_UNIX)
    exiting.bind(str(tmp_path / "key.sock"))
    exiting.listen(4)

    def exit_when_asked() -> None:
        connection, _ = exiting.accept()
        # The second client waits in the queue of a socket that is closed.
        exiting.close()
        connection.close()

    thread = threading.Thread(target=exit_when_asked)
    thread.start()
    base = {**os.environ, "METAFLOW_USER": "ann"}
    settings = RunnerSettings(
        python=sys.executable, root=tmp_path, base=base, environment=base, warm=True, idle_seconds=0.1
    )
    with Runner(settings) as session:
        thread.join()
        assert session._process is None, "it was to be a warm one"
        request = json.dumps({"op": "nonsense", "env": base}).encode() + b"\n"
        with pytest.raises(StepNotRunnableError, match="has no attribute '_nonsense'"):
            session.call(request, DoneAnswer, lambda stream, text: None)
