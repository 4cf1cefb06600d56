"""The recorded result of the extended layer, and when it no longer counts."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.harness import extended
from tests.harness.figures import Figures

GOOD = Figures(groups={"cluster": 81.6}, counts={"passed": 4})


@pytest.fixture
def commit(tmp_path: Path) -> Callable[..., str]:
    """A repository with one commit; makes further ones."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def make(times: int = 1, *first: str) -> str:
        if first:
            git(*first)
        for number in range(times):
            git("commit", "-q", "--allow-empty", "-m", f"{number} {first}")
        return git("rev-parse", "HEAD")

    git("init", "-q", "-b", "main")
    make()
    return make


def problem(folder: Path) -> str | None:
    return extended.problem(folder / "extended.json", folder)


@pytest.mark.subprocess
def test_a_result_counts_for_sixty_commits(commit: Callable[..., str], tmp_path: Path) -> None:
    extended.record(GOOD, seconds=90.4, path=tmp_path / "extended.json", repository=tmp_path)
    written = json.loads((tmp_path / "extended.json").read_text())
    assert written["counts"] == {"passed": 4}
    assert written["groups"] == {"cluster": 82}
    assert written["commit"] == commit(0)
    commit(60)
    assert problem(tmp_path) is None
    commit(1)
    assert problem(tmp_path) == "extended.json is 61 commits old, of 60 at most: run `make test-extended`."


@pytest.mark.subprocess
def test_a_result_of_another_history_does_not_count(commit: Callable[..., str], tmp_path: Path) -> None:
    commit(1, "checkout", "-q", "-b", "other")
    extended.record(GOOD, seconds=1, path=tmp_path / "extended.json", repository=tmp_path)
    commit(1, "checkout", "-q", "main")
    assert "no ancestor of this one" in str(problem(tmp_path))


@pytest.mark.subprocess
def test_a_commit_that_the_history_lacks_is_told_with_what_may_be_the_reason(
    commit: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "extended.json").write_text(json.dumps({"commit": "0" * 40, "counts": {"passed": 1}}))
    assert "if this clone is shallow" in str(problem(tmp_path))


@pytest.mark.subprocess
def test_without_a_git_history_the_age_is_said_to_be_unknown(tmp_path: Path) -> None:
    (tmp_path / "extended.json").write_text(json.dumps({"commit": "0" * 40, "counts": {"passed": 1}}))
    assert problem(tmp_path) is None
    assert "There is no git history here" in str(extended.note(tmp_path / "extended.json", tmp_path))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "is missing: run `make test-extended`"),
        ("<<<<<<< HEAD", "is no JSON"),
        ('{"counts": {"passed": 3, "failed": 1}}', "until all of its tests pass"),
        ('{"counts": {"passed": 3, "error": 1}}', "until all of its tests pass"),
        ('{"counts": {}}', "until all of its tests pass"),
    ],
)
def test_a_result_that_proves_nothing_does_not_count(tmp_path: Path, content: str | None, told: str) -> None:
    if content is not None:
        (tmp_path / "extended.json").write_text(content)
    assert told in str(problem(tmp_path))


@pytest.mark.subprocess
def test_tests_that_failed_in_a_whole_run_may_pass_later_and_the_age_stays(
    commit: Callable[..., str], tmp_path: Path
) -> None:
    path = tmp_path / "extended.json"
    extended.record(Figures(counts={"passed": 3, "failed": 2}), seconds=1, path=path, repository=tmp_path)
    whole = commit(0)
    assert "failed" in str(problem(tmp_path))
    later = commit(2)
    for short in ({"passed": 1}, {"passed": 1, "failed": 1}, {"passed": 3}, {}):
        told = extended.complete(Figures(counts=short), path=path, repository=tmp_path)
        assert told == f"extended.json stays as it is: 2 tests had failed, and now {short}."
    assert extended.complete(Figures(counts={"passed": 2}), path=path, repository=tmp_path) is None
    written = json.loads(path.read_text())
    assert (written["counts"], written["commit"]) == ({"passed": 5}, whole)
    assert (written["again"]["commit"], written["again"]["passed"]) == (later, 2)
    assert problem(tmp_path) is None
    commit(59)
    assert "61 commits old" in str(problem(tmp_path))
