"""Builds beside the tests, and tests that wait for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.harness.builds import FOLDER, BuildFailedError, Builds, ready, wait


@pytest.mark.subprocess
def test_a_test_waits_for_the_build_that_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path / "builds"))
    made = tmp_path / "made"
    with Builds(tmp_path / "builds", {"first": [["sh", "-c", f"sleep 0.3; echo done > {made}"]]}) as building:
        assert not ready("first")
        wait("first")
        assert made.read_text() == "done\n"
        assert ready("first")
    assert building.seconds["first"] > 0.2


@pytest.mark.subprocess
def test_a_failed_build_fails_its_tests_with_its_last_lines_and_no_other_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    steps = {
        "broken": [["sh", "-c", "seq 100; echo the disk is full; exit 3"], ["touch", str(tmp_path / "not-made")]],
        "sound": [["true"]],
    }
    with Builds(tmp_path, steps):
        with pytest.raises(BuildFailedError, match="The build of broken failed") as failed:
            wait("broken")
        wait("sound")
    lines = str(failed.value).splitlines()
    assert lines[-1] == "the disk is full"
    assert "1" not in lines
    assert not (tmp_path / "not-made").exists()


@pytest.mark.subprocess
def test_a_build_ends_with_the_command_that_has_started_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    with Builds(tmp_path, {"endless": [["sleep", "1000"], ["sleep", "1000"]]}):
        assert not ready("endless")
    with pytest.raises(BuildFailedError, match="endless"):
        wait("endless")


def test_without_builds_nothing_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER, raising=False)
    wait("cluster")
    assert ready("cluster")


def test_a_build_whose_command_was_killed_fails_the_tests_that_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    (tmp_path / "pid").write_text(str(2**22 + 1))  # more than any process has
    (tmp_path / "cluster.log").write_text("half way\n")
    with pytest.raises(BuildFailedError, match="half way"):
        wait("cluster")
