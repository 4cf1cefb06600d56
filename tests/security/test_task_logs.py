"""Nothing that a step prints stalls its worker, fails the step, or is missing from Metaflow's log."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psutil
import pytest
from tests.support.environment import environment_variable

from airflow_provider_metaflow.compute.local.processes import LocalCompute
from metaflow_orchestration.compile.compiler import CompileOptions, load_manifest
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.run.commands import StepCall, parameters_path

FLOW = r"""
import os, sys, time
from metaflow import FlowSpec, step

class LoudFlow(FlowSpec):
    @step
    def start(self):
        what = os.environ["WHAT"]
        if what == "line":
            for _ in range(30):
                sys.stdout.write("x" * 1_000_000)
            print()
        elif what == "bar":
            for percent in range(80):
                sys.stderr.write("\r%3d%%" % percent)
                sys.stderr.flush()
                time.sleep(0.1)
            sys.stderr.write("\n")
        elif what == "bytes":
            os.write(1, b"\xff\xfe no text \x00 nul \xf0\x9f\x98\x80 and half of one \xf0\x9f\n")
            print("\ud800 a lone surrogate")
        elif what == "lines":
            for number in range(100_000):
                print("line", number)
        print("the end")
        self.next(self.end)

    @step
    def end(self):
        pass

if __name__ == "__main__":
    LoudFlow()
"""


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    root = tmp_path_factory.mktemp("loud")
    (root / "flow").mkdir()
    (root / "flow" / "loud.py").write_text(FLOW)
    with environment_variable("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(root)):
        return load_manifest(root / "flow" / "loud.py", CompileOptions(python=sys.executable), root / "cache")


class Told:
    """What a step that prints something has shown, and when."""

    def __init__(self, manifest: Manifest, what: str, **more: Any) -> None:
        self.manifest, self.run_id = manifest, f"r-{what}"
        self.lines: list[str] = []
        self.times: list[float] = []
        compute = LocalCompute(
            manifest=manifest,
            code=manifest.code,
            cache=Path(manifest.command.datastore_root).parent / "cache",
            python=sys.executable,
            warm=False,
            idle_seconds=0,
            links={},
            variables={"WHAT": what},
            on_line=self._take,
        )
        call = StepCall(
            step=manifest.graph.step("start"),
            run_id=self.run_id,
            task_id="t",
            attempt=0,
            max_user_retries=0,
            inputs=(parameters_path(self.run_id),),
        )
        with compute:
            compute.run(call, {})

    def _take(self, stream: str, text: str) -> None:
        self.lines.append(text)
        self.times.append(time.monotonic())

    def metaflow_log(self, stream: str) -> bytes:
        from metaflow.datastore import FlowDataStore
        from metaflow.mflog.mflog import merge_logs
        from metaflow.plugins import DATASTORES

        local = next(d for d in DATASTORES if d.TYPE == "local")
        store = FlowDataStore("LoudFlow", None, storage_impl=local, ds_root=self.manifest.command.datastore_root)
        task = store.get_task_datastore(self.run_id, "start", "t")
        logs = [blob for _, blob in task.load_logs(["task"], stream)]
        return b"".join(line.msg + b"\n" for line in merge_logs(logs))


@contextmanager
def memory_of_children() -> Iterator[dict[int, int]]:
    """Collect, while the body runs, the most memory that each process that it starts has had, in kilobytes.

    Not of what runs already: an Airflow that other tests share is below this process, too. And not from `getrusage`:
    what a process has before its `exec` counts there, which is the memory of this process.
    """
    here = psutil.Process()
    before = here.children()
    found: dict[int, int] = {}
    ended = Event()

    def look() -> None:
        while not ended.wait(0.02):
            with suppress(psutil.Error):
                started = [child for child in here.children() if child not in before]
                for process in [*started, *(below for child in started for below in child.children(recursive=True))]:
                    with suppress(OSError):
                        status = Path(f"/proc/{process.pid}/status").read_text()
                        if told := re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE):
                            found[process.pid] = int(told[1])

    looking = Thread(target=look)
    looking.start()
    try:
        yield found
    finally:
        ended.set()
        looking.join()


def test_one_line_of_30_megabytes_is_shown_in_pieces_and_costs_little_memory(manifest: Manifest) -> None:
    with memory_of_children() as kilobytes:
        told = Told(manifest, "line")
    assert "".join(told.lines) == "x" * 30_000_000 + "the end"
    assert max(map(len, told.lines)) <= 64 * 1024
    # The step's own Python with Metaflow takes about 100 MB; the line, held whole, would take 30 MB more for each copy.
    assert 50_000 < max(kilobytes.values()) <= 200_000
    assert told.metaflow_log("stdout") == b"x" * 30_000_000 + b"\nthe end\n"


def test_a_progress_bar_is_shown_while_the_step_runs_and_whole_in_metaflows_log(manifest: Manifest) -> None:
    told = Told(manifest, "bar")
    bar = [line for line in told.lines if line.endswith("%")]
    assert bar[-1] == " 79%"
    assert 3 <= len(bar) <= 6
    gaps = [after - before for before, after in zip(told.times, told.times[1:], strict=False)]
    assert max(gaps) < 6
    assert told.metaflow_log("stderr") == b"".join(b"\r%3d%%" % percent for percent in range(80)) + b"\n"


def test_bytes_that_are_no_text_fail_no_step_and_stay_in_metaflows_log(manifest: Manifest) -> None:
    told = Told(manifest, "bytes")
    assert told.lines == [
        "\ufffd\ufffd no text \0 nul \U0001f600 and half of one \ufffd",
        "\\ud800 a lone surrogate",
        "the end",
    ]
    line = b"\xff\xfe no text \x00 nul \xf0\x9f\x98\x80 and half of one \xf0\x9f\n"
    assert told.metaflow_log("stdout").startswith(line)


def test_many_lines_keep_their_order_in_both_logs(manifest: Manifest) -> None:
    told = Told(manifest, "lines")
    expected = [*(f"line {number}" for number in range(100_000)), "the end"]
    assert told.lines == expected
    assert told.metaflow_log("stdout").decode().splitlines() == expected
