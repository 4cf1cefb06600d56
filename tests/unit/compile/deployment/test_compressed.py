"""What was compressed before is used only if it is whole, of the same input, and nobody else can have written it."""

from __future__ import annotations

from pathlib import Path

import pytest

from metaflow_orchestration.compile.deployment import compressed


class Maker:
    """Counts how often it was asked."""

    def __init__(self, made: bytes = b"compressed") -> None:
        self.made, self.asked = made, 0

    def __call__(self) -> bytes:
        self.asked += 1
        return self.made


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "airflow-provider-metaflow" / "compressed"


def test_the_next_command_reads_what_was_made(cache: Path) -> None:
    make = Maker()
    assert compressed.kept("metaflow", "key", make) == compressed.kept("metaflow", "key", make) == b"compressed"
    assert make.asked == 1
    assert [path.stat().st_mode & 0o777 for path in cache.iterdir()] == [0o600]
    assert cache.stat().st_mode & 0o777 == 0o700


def test_another_input_takes_its_place(cache: Path) -> None:
    compressed.kept("metaflow", "key", Maker())
    assert compressed.kept("metaflow", "other key", Maker(b"of the other")) == b"of the other"
    assert compressed.kept("metaflow", "key", again := Maker()) == b"compressed"
    assert again.asked == 1
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("damage", [b"", b"\0", b"x" * 100])
def test_a_damaged_file_is_made_again(cache: Path, damage: bytes) -> None:
    compressed.kept("metaflow", "key", Maker())
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    for content in (damage, whole + b"more", whole[:-1], whole[:40] + damage + whole[40:]):
        if content != whole:
            file.write_bytes(content)
            assert compressed.kept("metaflow", "key", again := Maker()) == b"compressed"
            assert again.asked == 1
            assert file.read_bytes() == whole


def test_a_folder_that_others_can_write_to_is_not_used(cache: Path) -> None:
    compressed.kept("metaflow", "key", Maker(b"of another user"))
    cache.chmod(0o777)
    assert compressed.kept("metaflow", "key", Maker()) == b"compressed"


def test_a_user_without_a_place_for_it_compresses_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    make = Maker()
    assert [compressed.kept("metaflow", "key", make) for _ in range(2)] == [b"compressed"] * 2
    assert make.asked == 2
