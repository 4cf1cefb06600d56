"""How long groups of tests take: counted while pytest runs, and kept in `benchmarks/results/tests.json`."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from . import flaky
from .flaky import FlakyReporter

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results/tests.json"

OUTPUT = "TEST_FIGURES"
"""The environment variable that names the file for the figures of one pytest."""


@dataclass
class FileFigures:
    """Of the tests of one file: how many passed, and how many did not."""

    passed: int = 0
    failed: int = 0


@dataclass
class Figures:
    """Of one pytest: seconds of each group of tests, how many tests ended how, which passed on a second try only."""

    groups: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    flaky: list[str] = field(default_factory=list)
    files: dict[str, FileFigures] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Figures:
        """Read what the plugin has written; empty if pytest did not come to an end."""
        if not path.exists():
            return cls()
        written = json.loads(path.read_text())
        files = {name: FileFigures(**one) for name, one in written.pop("files").items()}
        return cls(**written, files=files)

    def slowest(self, count: int) -> list[tuple[str, float]]:
        """Return the groups that took longest, with their seconds."""
        return sorted(self.groups.items(), key=lambda group: -group[1])[:count]


class Recorder:
    """A pytest plugin, in the process that hears of all tests."""

    def __init__(self, path: Path, reporter: FlakyReporter) -> None:
        self._path = path
        self._reporter = reporter
        self._groups: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._files: dict[str, FileFigures] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        from tests.support.workers import group_of

        self._groups[group_of(report.nodeid)] += report.duration  # type: ignore[assignment]
        if report.when == "call" or report.outcome != "passed":
            file = self._files.setdefault(report.nodeid.partition("::")[0], FileFigures())
            self._counts["error" if report.failed and report.when != "call" else report.outcome] += 1
            file.passed += report.passed
            # One that was skipped has proved nothing.
            file.failed += not report.passed

    def pytest_sessionfinish(self) -> None:
        figures = Figures(dict(self._groups), dict(self._counts), self._reporter.flaky, self._files)
        self._path.write_text(json.dumps(asdict(figures)))


def register(config: pytest.Config) -> None:
    """Count, where the command that runs pytest has asked for it; not in the workers of xdist."""
    reporter = flaky.register(config)
    path = os.environ.get(OUTPUT)
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(Path(path), reporter))


def keep(run: str, figures: Figures, phases: Mapping[str, float], path: Path = RESULTS) -> None:
    """Keep the figures of a run in the repository, in the place of those before.

    :param run: e.g. ``test warm``.
    :param figures: of its pytest.
    :param phases: seconds of what the command did, by name.
    :param path: the file.
    """
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    kept[run] = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip() or None,
        "cores": os.cpu_count(),
        "counts": dict(sorted(figures.counts.items())),
        "flaky": sorted(figures.flaky),
        "seconds": {name: round(took, 1) for name, took in phases.items()},
        "groups": {name: round(took, 1) for name, took in sorted(figures.groups.items(), key=lambda one: -one[1])},
    }
    path.write_text(json.dumps(kept, indent=1) + "\n")


def durations(path: Path = RESULTS) -> dict[str, float]:
    """Return the seconds of each group in the runs that were kept."""
    try:
        kept = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    found: dict[str, float] = {}
    for run in kept.values():
        found.update(run.get("groups", {}))
    return found
