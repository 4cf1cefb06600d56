"""What a flow or a disk does wrong is one message: nothing is half-written, and what was there before stays."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from tests.support.interpreter import python

from metaflow_orchestration import cache as caches
from metaflow_orchestration.compile import compiler
from metaflow_orchestration.compile.compiler import CompileOptions, load_manifest
from metaflow_orchestration.compile.processes import supervised
from metaflow_orchestration.compile.processes.supervised import run_supervised
from metaflow_orchestration.exceptions import CacheFolderError, FlowCompileError

pytestmark = pytest.mark.subprocess

OPTIONS = CompileOptions(python=python())


@pytest.fixture
def flow(tmp_path: Path, flows: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Writes a flow file with some code at its head."""
    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(tmp_path / "store"))

    def write(head: str) -> Path:
        path = tmp_path / "flow/single_step.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"import os, shutil, sys\n{head}\n{(flows / 'single_step.py').read_text()}")
        return path

    return write


def manifests(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "manifests").glob("*.json"))


def test_a_flow_that_exits_with_0_is_an_error_also_after_it_compiled_once(
    flow: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its earlier manifest, of other variables, was taken for the result."""
    path = flow("if os.environ.get('STAGE') == 'odd':\n    sys.exit(0)")
    monkeypatch.setenv("STAGE", "even")
    load_manifest(path, OPTIONS, tmp_path / "cache")
    monkeypatch.setenv("STAGE", "odd")
    with pytest.raises(FlowCompileError, match="wrote no manifest"):
        load_manifest(path, OPTIONS, tmp_path / "cache")


@pytest.mark.extended
def test_a_flow_that_prints_without_end_fills_no_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flow: Callable[[str], Path]
) -> None:
    monkeypatch.setattr(supervised, "_MOST_OUTPUT_BYTES", 100_000)
    sizes: list[int] = []
    cut = os.ftruncate

    def ftruncate(descriptor: int, length: int) -> None:
        sizes.append(os.fstat(descriptor).st_size)
        cut(descriptor, length)

    monkeypatch.setattr(supervised.os, "ftruncate", ftruncate)
    lines = ["import time", "for _ in range(40):", "    print('x' * 50_000, flush=True)", "    time.sleep(0.03)"]
    program = "\n".join([*lines, "print('end')"])
    result = run_supervised([sys.executable, "-c", program], folder=tmp_path, environment=os.environ, seconds=60)
    assert (result.status, result.stdout.splitlines()[-1]) == (0, "end")
    assert len(sizes) > 3
    assert len(result.stdout) < 1_000_000
    # And all the same it is compiled.
    path = flow("for _ in range(1000):\n    print('x' * 1000)")
    assert load_manifest(path, OPTIONS, tmp_path / "cache").graph.name == "SingleStepFlow"


def test_a_flow_that_deletes_its_folder_is_an_error(flow: Callable[[str], Path], tmp_path: Path) -> None:
    path = flow("shutil.rmtree(os.path.dirname(os.path.abspath(__file__)))")
    with pytest.raises(FlowCompileError, match="flow single_step"):
        load_manifest(path, OPTIONS, tmp_path / "cache")
    assert manifests(tmp_path / "cache") == []


@pytest.fixture
def small_disk() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="small-disk-"))
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True)
    if made.returncode != 0:
        folder.rmdir()
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
    folder.rmdir()


def test_a_full_disk_is_one_error_that_says_so_and_nothing_is_half_written(
    flow: Callable[[str], Path], small_disk: Path
) -> None:
    path = flow("")
    cache = small_disk / "cache"
    caches.Cache(cache).folder(caches.MANIFESTS)
    with (small_disk / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError, match="No space left"):
        filler.writelines([b"x" * 4096] * 100)
    with pytest.raises((FlowCompileError, CacheFolderError), match="No space left"):
        load_manifest(path, OPTIONS, cache, remember_failures=True)
    assert manifests(cache) == []
    (small_disk / "filler").unlink()
    for leftover in (cache / "manifests").glob("*.failed"):
        leftover.unlink()
    assert load_manifest(path, OPTIONS, cache).graph.name == "SingleStepFlow"


def test_a_file_system_without_locks_is_named(
    flow: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(CacheFolderError, match=r"manifests has no locks \(No locks available\)[\s\S]*cache_folder"):
        load_manifest(flow(""), OPTIONS, tmp_path / "cache")


@pytest.mark.extended
def test_two_hosts_that_share_a_cache_and_see_none_of_each_others_locks_both_get_a_whole_manifest(
    flow: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "locked", lambda *_, **__: nullcontext())
    path = flow("")
    found: list[object] = []

    def host() -> None:
        found.append(load_manifest(path, OPTIONS, tmp_path / "cache"))

    hosts = [threading.Thread(target=host) for _ in range(2)]
    for one in hosts:
        one.start()
    for one in hosts:
        one.join(120)
    assert len(found) == 2
    assert found[0] == found[1] == load_manifest(path, OPTIONS, tmp_path / "cache")
    assert len(list((tmp_path / "cache/manifests").iterdir())) == 3
