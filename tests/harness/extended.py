"""The last results of `make test-extended`, which that command writes itself and `make test` looks at.

Each test file has a result of its own, so the suite may run in parts: it takes longer than most machines are free.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple, TypedDict

from tests.harness.figures import Figures, FileFigures

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "tests/extended.json"

MOST_COMMITS = 60
"""How many commits later the result of a file still counts."""

_MARKS = r"mark\.extended|shape_parameters\("
"""What the files hold whose tests, or some of them, are of this layer."""


class Result(TypedDict):
    """What the tests of one file did when they last ran."""

    date: str
    commit: str
    passed: int
    failed: int


class _Age(NamedTuple):
    file: str
    since: str
    commits: int


def record(figures: Figures, *, whole: bool, path: Path = RESULT, repository: Path = ROOT) -> None:
    """Write the results of the files that have run, whether they passed or not.

    :param figures: of the run.
    :param whole: whether all files have run, so that others are gone.
    :param path: the file of the results.
    :param repository: where its commit is looked up.
    """
    found: dict[str, Result] = {} if whole or not path.exists() else json.loads(path.read_text())["files"]
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    commit = _git(repository, "rev-parse", "HEAD")
    found.update({name: _result(one, date, commit) for name, one in figures.files.items()})
    path.write_text(json.dumps({"version": 2, "files": dict(sorted(found.items()))}, indent=1) + "\n")


def _result(figures: FileFigures, date: str, commit: str) -> Result:
    return {"date": date, "commit": commit, "passed": figures.passed, "failed": figures.failed}


def problem(path: Path = RESULT, repository: Path = ROOT) -> str | None:
    """Return what is wrong with the recorded results, None if they count.

    A file without a result is as old as the last commit that has put tests of it into this layer: until then they ran
    in `make test`.

    :param path: the file of the results.
    :param repository: where their commits are looked up.
    """
    try:
        found: Mapping[str, Result] = json.loads(path.read_text())["files"]
    except FileNotFoundError:
        return f"{path.name} is missing: run `make test-extended` and commit what it writes."
    except (ValueError, KeyError, TypeError) as error:
        return f"{path.name} holds no results ({error!r}): run `make test-extended` again."
    if failed := [name for name, one in found.items() if one["failed"] or not one["passed"]]:
        return f"{path.name} records failed tests: {_again(failed)}"
    if not _git(repository, "rev-parse", "--git-dir"):
        return None
    files = [*found, *(name for name in _marked(repository) if name not in found)]
    commits = {name: found[name]["commit"] if name in found else _last_marked(repository, name) for name in files}
    if foreign := [name for name, commit in commits.items() if commit and not _is_ancestor(repository, commit)]:
        return (
            f"{path.name} has results of commits that are none of this branch (fetch the whole history, if this "
            f"clone is shallow): {_again(foreign)}"
        )
    ages = [_Age(name, commit, _commits_since(repository, commit)) for name, commit in commits.items() if commit]
    if old := [age for age in ages if age.commits > MOST_COMMITS]:
        worst = max(age.commits for age in old)
        return f"{path.name} is up to {worst} commits old, of {MOST_COMMITS} at most: {_again(age.file for age in old)}"
    return None


def note(path: Path = RESULT, repository: Path = ROOT) -> str | None:
    """Return what could not be looked at, None if everything was."""
    if problem(path, repository) or _git(repository, "rev-parse", "--git-dir"):
        return None
    return f"There is no git history here: whether {path.name} is older than {MOST_COMMITS} commits is not known."


def _again(files: Iterable[str]) -> str:
    return f"""run `make test-extended PYTEST_ARGS="{" ".join(sorted(files))}"`."""


def _marked(repository: Path) -> list[str]:
    """Return the files of tests that hold some of this layer."""
    found = _git(repository, "grep", "-lE", _MARKS, "HEAD", "--", "tests").replace("HEAD:", "").split()
    return [name for name in found if Path(name).name.startswith("test_")]


def _last_marked(repository: Path, file: str) -> str:
    return _git(repository, "log", "-1", "--format=%H", "-G", _MARKS, "--", file)


def _is_ancestor(repository: Path, commit: str) -> bool:
    return _git(repository, "merge-base", commit, "HEAD") == _git(repository, "rev-parse", "-q", "--verify", commit)


def _commits_since(repository: Path, commit: str) -> int:
    return int(_git(repository, "rev-list", "--count", f"{commit}..HEAD") or 0)


def _git(repository: Path, *arguments: str) -> str:
    """Return what git prints; nothing if it fails or is not there."""
    try:
        done = subprocess.run(
            ["git", "-C", str(repository), *arguments], capture_output=True, text=True, check=False, timeout=30
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
