"""The last result of `make test-extended`, which that command writes itself and `make test` looks at."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from tests.harness.figures import Figures

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "tests/extended.json"

MOST_COMMITS = 60
"""How many commits later the result still counts."""


def record(figures: Figures, *, seconds: float, path: Path = RESULT, repository: Path = ROOT) -> None:
    """Write the result of this run, whether it passed or not."""
    document = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": _git(repository, "rev-parse", "HEAD") or None,
        "counts": dict(sorted(figures.counts.items())),
        "seconds": round(seconds),
        "groups": {name: round(took) for name, took in sorted(figures.groups.items())},
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


def complete(figures: Figures, *, path: Path = RESULT, repository: Path = ROOT) -> str | None:
    """Write that the tests which failed in the last whole run have passed on this commit; return why not, if so.

    The commit of the whole run stays the one by whose age the result counts.

    :param figures: of a run of those tests alone (``--last-failed``).
    :param path: the file of the result.
    :param repository: where its commit is looked up.
    """
    found = json.loads(path.read_text())
    counts = dict(found["counts"])
    failed = counts.pop("failed", 0) + counts.pop("error", 0)
    passed = figures.counts.get("passed", 0)
    if not failed or figures.counts != {"passed": failed}:
        return f"{path.name} stays as it is: {failed} tests had failed, and now {dict(figures.counts)}."
    found["counts"] = {**counts, "passed": counts.get("passed", 0) + passed}
    found["again"] = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": _git(repository, "rev-parse", "HEAD") or None,
        "passed": passed,
    }
    path.write_text(json.dumps(found, indent=1) + "\n")
    return None


def problem(path: Path = RESULT, repository: Path = ROOT) -> str | None:
    """Return what is wrong with the recorded result, None if it counts.

    :param path: the file of the result.
    :param repository: where its commit is looked up.
    """
    try:
        found: Mapping[str, object] = json.loads(path.read_text())
    except FileNotFoundError:
        return f"{path.name} is missing: run `make test-extended` and commit what it writes."
    except ValueError as error:
        return f"{path.name} is no JSON ({error}): run `make test-extended` again."
    counts = found.get("counts")
    if not isinstance(counts, dict) or not counts.get("passed") or counts.get("failed") or counts.get("error"):
        return f"{path.name} records {counts}: run `make test-extended` until all of its tests pass."
    if not _git(repository, "rev-parse", "--git-dir"):
        return None
    return _age(path.name, str(found.get("commit")), repository)


def note(path: Path = RESULT, repository: Path = ROOT) -> str | None:
    """Return what could not be looked at, None if everything was."""
    if problem(path, repository) or _git(repository, "rev-parse", "--git-dir"):
        return None
    return f"There is no git history here: whether {path.name} is older than {MOST_COMMITS} commits is not known."


def _age(name: str, commit: str, repository: Path) -> str | None:
    if not _git(repository, "merge-base", commit, "HEAD"):
        return (
            f"{name} is of the commit {commit}, which this history lacks: run `make test-extended` on a commit "
            f"of this branch (or fetch the whole history, if this clone is shallow)."
        )
    if _git(repository, "merge-base", commit, "HEAD") != _git(repository, "rev-parse", commit):
        return f"{name} is of the commit {commit}, which is no ancestor of this one: run `make test-extended`."
    later = int(_git(repository, "rev-list", "--count", f"{commit}..HEAD") or 0)
    if later > MOST_COMMITS:
        return f"{name} is {later} commits old, of {MOST_COMMITS} at most: run `make test-extended`."
    return None


def _git(repository: Path, *arguments: str) -> str:
    """Return what git prints; nothing if it fails or is not there."""
    try:
        done = subprocess.run(
            ["git", "-C", str(repository), *arguments], capture_output=True, text=True, check=False, timeout=30
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
