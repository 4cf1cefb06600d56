"""Compiling a flow runs its author's code: whatever that does, it ends with the parse of the DAG file."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from metaflow_orchestration.cache import Cache
from metaflow_orchestration.compile import compiler
from metaflow_orchestration.compile.background.client import compile_for, failure_of
from metaflow_orchestration.compile.cache import failures as attempts
from metaflow_orchestration.compile.cache.entry import Entry
from metaflow_orchestration.compile.compiler import CompileOptions, load_manifest
from metaflow_orchestration.exceptions import FlowCompileError

OPTIONS = CompileOptions(python=sys.executable)
IN_GROUP = "subprocess.Popen(['sleep', '7777'])\n"
IN_OWN_SESSION = "subprocess.Popen(['sleep', '7777'], start_new_session=True)\n"
HANG = "open(os.environ['FLAG'], 'a').write('x')\nimport time\ntime.sleep(7777)\n"


@pytest.fixture
def flow(tmp_path: Path, flows: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """Writes a flow file with some code at its head; all of its processes know the name of the test's folder."""
    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(tmp_path / "store"))
    monkeypatch.setenv("FLAG", str(tmp_path / "flag"))
    monkeypatch.setenv("TEST_MARK", str(tmp_path))

    def write(head: str) -> Path:
        folder = tmp_path / "flow"
        folder.mkdir(exist_ok=True)
        path = folder / "single_step.py"
        path.write_text("import os, subprocess\n" + head + (flows / "single_step.py").read_text())
        return path

    yield write
    for pid in left_behind(tmp_path):
        os.kill(pid, signal.SIGKILL)


def left_behind(mark: Path) -> list[int]:
    """Return the processes, but for this one, whose environment names the folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"TEST_MARK={mark}\0".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return [pid for pid in found if pid != os.getpid()]


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def parse(path: Path, cache: Path) -> subprocess.Popen[bytes]:
    script = (
        "import sys; from pathlib import Path\n"
        "from metaflow_orchestration.compile.compiler import CompileOptions, load_manifest\n"
        "load_manifest(Path(sys.argv[1]), CompileOptions(python=sys.executable), Path(sys.argv[2]), "
        "remember_failures=True)"
    )
    return subprocess.Popen([sys.executable, "-c", script, path, cache], stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_parse_that_is_killed_leaves_no_process_of_its_compile(
    flow: Callable[[str], Path], tmp_path: Path, number: int
) -> None:
    parent = parse(flow(IN_GROUP + IN_OWN_SESSION + HANG), tmp_path / "cache")
    wait_until((tmp_path / "flag").exists)
    assert len(left_behind(tmp_path)) >= 5  # the parse, the supervisor, the compile and two of `sleep`
    parent.send_signal(number)
    parent.wait(30)
    wait_until(lambda: not left_behind(tmp_path))


def test_a_compile_that_takes_too_long_is_killed_with_all_that_it_started(
    flow: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "_TIMEOUT_SECONDS", 3)
    path = flow(IN_GROUP + IN_OWN_SESSION + HANG)
    with pytest.raises(FlowCompileError, match=r"single_step\.py: compiling it took over 3 s"):
        load_manifest(path, OPTIONS, tmp_path / "cache")
    wait_until(lambda: not left_behind(tmp_path), 5)


def test_a_compile_that_succeeds_waits_for_no_process_that_it_started_and_leaves_none(
    flow: Callable[[str], Path], tmp_path: Path
) -> None:
    assert load_manifest(flow(IN_GROUP + IN_OWN_SESSION), OPTIONS, tmp_path / "cache").graph.name == "SingleStepFlow"
    wait_until(lambda: not left_behind(tmp_path), 5)


def test_a_compile_that_hung_is_not_tried_again_at_the_next_parse(
    flow: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "_TIMEOUT_SECONDS", 2)
    path = flow(HANG)
    for _ in range(3):
        with pytest.raises(FlowCompileError, match="took over 2 s"):
            load_manifest(path, OPTIONS, tmp_path / "cache", remember_failures=True)
    assert (tmp_path / "flag").read_text() == "x"


def test_a_compile_that_was_cut_off_with_its_parse_is_not_tried_again_at_the_next_one(
    flow: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = flow(HANG)
    parent = parse(path, tmp_path / "cache")
    wait_until((tmp_path / "flag").exists)
    time.sleep(1.5)
    parent.kill()
    parent.wait(30)
    wait_until(lambda: not left_behind(tmp_path))
    monkeypatch.setattr(attempts, "_LONG_SECONDS", 1.0)
    with pytest.raises(FlowCompileError, match=r"single_step\.py: compiling it was cut off after \d+ s"):
        load_manifest(path, OPTIONS, tmp_path / "cache", remember_failures=True)
    assert (tmp_path / "flag").read_text() == "x"


def test_a_failure_is_remembered_for_a_short_time_only_and_a_change_of_the_flow_ends_it(
    flow: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = "open(os.environ['FLAG'], 'a').write('x')\nraise RuntimeError('no database today')\n"
    path = flow(broken)

    def attempts_made() -> int:
        with pytest.raises(FlowCompileError, match="no database today"):
            load_manifest(path, OPTIONS, tmp_path / "cache", remember_failures=True)
        return len((tmp_path / "flag").read_text())

    assert [attempts_made(), attempts_made()] == [1, 1]
    monkeypatch.setattr(attempts, "_ERROR_SECONDS", 0.0)
    assert attempts_made() == 2
    monkeypatch.undo()
    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(tmp_path / "store"))
    flow("")
    assert load_manifest(path, OPTIONS, tmp_path / "cache", remember_failures=True).graph.name == "SingleStepFlow"


def test_a_compile_in_the_background_waits_for_no_process_that_it_started_and_leaves_none(
    flow: Callable[[str], Path], tmp_path: Path
) -> None:
    cache = Cache(tmp_path / "cache")
    entry = Entry.of(flow(IN_GROUP + IN_OWN_SESSION), OPTIONS, cache)
    compile_for([entry], cache, None)
    manifest = entry.manifest()
    assert manifest is not None
    assert manifest.graph.name == "SingleStepFlow"
    wait_until(lambda: not left_behind(tmp_path), 5)


def test_a_compile_in_the_background_ends_with_the_dag_processor(
    flow: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = subprocess.Popen(["sleep", "7777"], env={})
    monkeypatch.setattr(os, "getppid", lambda: processor.pid)
    cache = Cache(tmp_path / "cache")
    compile_for([Entry.of(flow(IN_GROUP + IN_OWN_SESSION + HANG), OPTIONS, cache)], cache, 0.5)
    wait_until((tmp_path / "flag").exists)
    processor.kill()
    processor.wait()
    wait_until(lambda: not left_behind(tmp_path))


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("raise ValueError('on purpose')\n", "on purpose"),
        ("import sys\nsys.exit('a message of its own')\n", "a message of its own"),
        ("import sys\nsys.exit(0)\n", "running it as a program wrote no manifest"),
        ("os.kill(os.getpid(), 9)\n", "does not compile"),
        ("os._exit(3)\n", "does not compile"),
    ],
)
def test_why_a_compile_in_the_background_failed_is_found_by_the_next_parse(
    flow: Callable[[str], Path], tmp_path: Path, head: str, message: str
) -> None:
    cache = Cache(tmp_path / "cache")
    entry = Entry.of(flow(head), OPTIONS, cache)
    compile_for([entry], cache, None)
    error = failure_of(entry)
    assert error is not None
    assert message in str(error)
    assert str(error).startswith("flow single_step.py: ")
