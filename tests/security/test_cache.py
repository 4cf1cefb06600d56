"""The cache holds code that runs as Airflow and manifests with tokens: no other user gets in, and it stays small."""

from __future__ import annotations

import multiprocessing
import os
import stat
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.support.environment import environment_variable

from airflow_provider_metaflow import settings
from airflow_provider_metaflow.compute.local.code import unpacked
from metaflow_orchestration.cache import CODE, MANIFESTS, Cache, locked, private_folder
from metaflow_orchestration.compile.compiler import CompileOptions, load_manifest
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import CacheFolderError


@pytest.fixture(scope="module")
def manifest(flows: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    root = tmp_path_factory.mktemp("store")
    with environment_variable("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(root)):
        return load_manifest(flows / "single_step.py", CompileOptions(python=sys.executable), root / "cache")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a folder that of another user; where that needs rights that we lack, become another user ourselves."""
    if os.geteuid() == 0:
        os.chown(path, 12345, 12345)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)


def test_everything_in_the_cache_is_private_to_its_user(manifest: Manifest, tmp_path: Path) -> None:
    root = Path(manifest.command.datastore_root).parent / "cache"
    (compiled,) = (root / "manifests").glob("*.metaflow.json")
    assert manifest.deployment.production_token in compiled.read_text()
    assert mode(compiled) == 0o600
    with unpacked(manifest.code, root, manifest.command.datastore_root) as code:
        folders = [root, root / "manifests", root / "code", code]
        assert [mode(folder) for folder in folders] == [0o700] * 4
        # What lies around the flow is linked there, and may be anything.
        locks = [one for one in root.rglob("*.lock") if not one.is_symlink()]
        assert {mode(lock) for lock in locks} == {0o600}


def test_by_default_the_cache_is_in_airflows_home_and_not_in_a_folder_that_all_users_share(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AIRFLOW__METAFLOW__CACHE_FOLDER")
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "not-yet" / "airflow"))
    assert settings.cache_folder().parent == tmp_path / "not-yet" / "airflow"


@pytest.mark.parametrize("kind", ["", MANIFESTS, CODE])
def test_a_cache_folder_of_another_user_is_refused_and_none_of_its_code_runs(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    with unpacked(manifest.code, tmp_path / "cache", manifest.command.datastore_root) as code:
        (code / "single_step.py").write_text("raise SystemExit('code of another user')")
    flow = Path(manifest.code.flow_dir) / "single_step.py"
    load_manifest(flow, CompileOptions(python=sys.executable), tmp_path / "cache")
    give_away(tmp_path / "cache" / kind, monkeypatch)
    if kind != MANIFESTS:
        with pytest.raises(CacheFolderError, match=r"belongs to another user .*cache_folder"):
            with unpacked(manifest.code, tmp_path / "cache", manifest.command.datastore_root):
                pytest.fail("it was used")
    if kind != CODE:
        with pytest.raises(CacheFolderError, match=r"belongs to another user .*cache_folder"):
            load_manifest(flow, CompileOptions(python=sys.executable), tmp_path / "cache")


def test_a_cache_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "cache").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CacheFolderError, match="is a symbolic link"):
        Cache(tmp_path / "cache").folder(CODE)
    (tmp_path / "private").mkdir(mode=0o700)
    (tmp_path / "private" / CODE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CacheFolderError, match="is a symbolic link"):
        Cache(tmp_path / "private").folder(CODE)


@pytest.mark.parametrize("bits", [0o770, 0o707, 0o722, 0o1777])
def test_a_cache_folder_that_others_can_write_to_is_refused(tmp_path: Path, bits: int) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(bits)
    with pytest.raises(CacheFolderError, match=r"other users can write .*cannot be trusted"):
        private_folder(tmp_path / "cache")


def test_an_own_cache_folder_that_others_can_read_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o755)
    (tmp_path / "cache").chmod(0o755)
    private_folder(tmp_path / "cache")
    assert mode(tmp_path / "cache") == 0o700


def test_a_cache_that_cannot_be_written_is_an_error_that_names_the_setting(flows: Path) -> None:
    with pytest.raises(CacheFolderError, match=r"/proc/none.*\[metaflow\] cache_folder"):
        load_manifest(flows / "single_step.py", CompileOptions(python=sys.executable), Path("/proc/none"))


def entry(cache: Cache, kind: str, name: str, age: int) -> Path:
    path = cache.folder(kind) / name
    if kind == CODE:
        (path / "content").mkdir(parents=True)
        (path / "content" / "data").write_bytes(b"x" * 100_000)
    else:
        path.write_bytes(b"x" * 100_000)
    with locked(path):
        pass
    when = path.stat().st_mtime - age
    os.utime(path, (when, when))
    return path


def test_the_cache_stays_within_its_limit_and_drops_what_was_not_used_for_longest(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", limit_bytes=350_000)
    made = [entry(cache, (CODE, MANIFESTS)[n % 2], f"e{n}", age=1000 - n) for n in range(8)]
    cache.evict(made[-1])
    assert [one.name for one in made if one.exists()] == ["e5", "e6", "e7"]
    assert len(list((tmp_path / "cache").rglob("*.lock"))) == 3
    # The one that must stay does so whatever its age, and leftovers of a killed process count as entries.
    left = entry(cache, CODE, ".e9.removed-1", age=5000)
    old = entry(cache, MANIFESTS, "e8", age=9000)
    cache.evict(old)
    assert (old.exists(), left.exists(), made[5].exists()) == (True, False, False)


def test_code_that_a_task_uses_is_not_dropped(manifest: Manifest, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", limit_bytes=1)
    root = manifest.command.datastore_root
    with unpacked(manifest.code, cache, root) as first:
        other = replace(manifest.code, flow_dir=str(tmp_path))
        with unpacked(other, cache, root) as second:
            assert (first / "single_step.py").exists()
            assert (second / "single_step.py").exists()
    with unpacked(replace(manifest.code, flow_dir="/"), cache, root):
        assert not first.exists()
        assert not second.exists()


def _use(number: int, manifest: Manifest, folder: Path, rounds: int, failures: multiprocessing.Queue[str]) -> None:
    cache = Cache(folder, limit_bytes=1)
    try:
        for turn in range(rounds):
            package = replace(manifest.code, flow_dir=str(folder / f"none-{(number + turn) % 3}"))
            with unpacked(package, cache, manifest.command.datastore_root) as code:
                assert (code / "single_step.py").read_bytes()
                assert (code / ".mf_code" / "metaflow" / "__init__.py").read_bytes()
    except BaseException as error:
        failures.put(repr(error))


def test_several_processes_use_and_clean_one_cache_at_a_time(manifest: Manifest, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    failures = context.Queue()
    processes = [context.Process(target=_use, args=(n, manifest, tmp_path / "cache", 4, failures)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert failures.empty(), failures.get()
    assert not list((tmp_path / "cache" / "code").glob("*/package.tgz"))
