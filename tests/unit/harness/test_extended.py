"""The recorded results of the extended layer, and when they no longer count."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.harness import extended
from tests.harness.figures import Figures, FileFigures

GOOD = Figures(files={"tests/test_a.py": FileFigures(passed=4)})
MARKED = "@pytest.mark." + "extended"


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


def write(folder: Path, text: str, name: str = "test_b.py") -> None:
    (folder / "tests").mkdir(exist_ok=True)
    (folder / "tests" / name).write_text(text)
    subprocess.run(["git", "-C", str(folder), "add", "tests"], check=True)


def record(folder: Path, figures: Figures = GOOD, *, whole: bool = False) -> None:
    extended.record(figures, whole=whole, path=folder / "extended.json", repository=folder)


@pytest.mark.subprocess
def test_a_result_counts_for_sixty_commits(commit: Callable[..., str], tmp_path: Path) -> None:
    record(tmp_path)
    (written,) = json.loads((tmp_path / "extended.json").read_text())["files"].values()
    assert (written["passed"], written["failed"]) == (4, 0)
    assert written["commit"] == commit(0)
    commit(60)
    assert problem(tmp_path) is None
    commit(1)
    assert problem(tmp_path) == (
        'extended.json is up to 61 commits old, of 60 at most: run `make test-extended PYTEST_ARGS="tests/test_a.py"`.'
    )


@pytest.mark.subprocess
def test_each_file_has_its_own_age_and_a_run_of_all_forgets_those_that_are_gone(
    commit: Callable[..., str], tmp_path: Path
) -> None:
    record(tmp_path)
    commit(40)
    record(tmp_path, Figures(files={"tests/test_b.py": FileFigures(passed=1)}))
    commit(40)
    assert "tests/test_a.py" in str(problem(tmp_path))
    assert "tests/test_b.py" not in str(problem(tmp_path))
    record(tmp_path, Figures(files={"tests/test_b.py": FileFigures(passed=1)}), whole=True)
    assert problem(tmp_path) is None


@pytest.mark.subprocess
def test_tests_that_were_put_into_the_layer_and_never_ran_in_it_are_as_old_as_that_commit(
    commit: Callable[..., str], tmp_path: Path
) -> None:
    record(tmp_path)
    write(tmp_path, "def test(): ...")
    commit(10)
    write(tmp_path, f"{MARKED}\ndef test(): ...")
    commit(40)
    write(tmp_path, f"{MARKED}\ndef test(): assert True")
    commit(10)
    record(tmp_path)
    assert problem(tmp_path) is None
    commit(15)
    assert "is up to 64 commits old" in str(problem(tmp_path))
    assert 'PYTEST_ARGS="tests/test_b.py"' in str(problem(tmp_path))
    record(tmp_path, Figures(files={"tests/test_b.py": FileFigures(passed=1)}))
    assert problem(tmp_path) is None


@pytest.mark.subprocess
def test_a_result_of_another_history_does_not_count(commit: Callable[..., str], tmp_path: Path) -> None:
    commit(1, "checkout", "-q", "-b", "other")
    record(tmp_path)
    commit(1, "checkout", "-q", "main")
    assert "commits that are none of this branch" in str(problem(tmp_path))


def document(**result: object) -> str:
    known = {"date": "", "commit": "0" * 40, "passed": 1, "failed": 0}
    return json.dumps({"version": 2, "files": {"tests/test_a.py": {**known, **result}}})


@pytest.mark.subprocess
def test_a_commit_that_the_history_lacks_is_named_with_what_may_be_the_reason(
    commit: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "extended.json").write_text(document())
    assert "if this clone is shallow" in str(problem(tmp_path))


@pytest.mark.subprocess
def test_without_a_git_history_the_age_is_said_to_be_unknown(tmp_path: Path) -> None:
    (tmp_path / "extended.json").write_text(document())
    assert problem(tmp_path) is None
    assert "There is no git history here" in str(extended.note(tmp_path / "extended.json", tmp_path))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "is missing: run `make test-extended`"),
        ("<<<<<<< HEAD", "holds no results"),
        ('{"counts": {"passed": 3}}', "holds no results"),
        (document(failed=1), 'records failed tests: run `make test-extended PYTEST_ARGS="tests/test_a.py"`'),
        (document(passed=0), "records failed tests"),
    ],
)
def test_a_result_that_proves_nothing_does_not_count(tmp_path: Path, content: str | None, reason: str) -> None:
    if content is not None:
        (tmp_path / "extended.json").write_text(content)
    assert reason in str(problem(tmp_path))
