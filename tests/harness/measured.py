"""Coverage of the product by the tests: lines and branches, with the processes that tests start and those fork."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
SETTINGS = ROOT / "pyproject.toml"

EVERYTHING = "TEST_COVERAGE"
"""Set it to `all` to measure also what the scheduler and the cluster start, which nearly doubles their time."""

_CHILDREN = "COVERAGE_PROCESS_CONFIG"
"""The variable by which coverage.py measures the processes that a test starts."""

_LEAST_OF_A_MODULE = 60.0
_MEASURED_CHILDREN = (
    "tests/quick/",
    "tests/security/",
    "tests/unit/compare/",
    "tests/unit/compute/",
    "tests/unit/containers/test_command.py",
    "tests/unit/compile/processes/test_supervisor.py",
    "tests/unit/cli/",
    "tests/unit/deployer/",
    "tests/unit/task/",
    "tests/unit/reading/",
)
"""Tests whose processes are measured: those of code that runs in processes only. Others take 1.7 times as long with it
and reach nothing more."""

_children: str | None = os.environ.get(_CHILDREN)


@dataclass(frozen=True)
class Module:
    """A module of the product, and the percentage of its lines and branches that the tests reach."""

    path: str
    percent: float


@dataclass(frozen=True)
class Measured:
    """What the tests reach of the product."""

    percent: float
    modules: tuple[Module, ...]

    @classmethod
    def of_report(cls, report: Mapping[str, Any]) -> Measured:
        """Read coverage.py's report in JSON."""
        modules = [
            Module(path, file["summary"]["percent_covered"])
            for path, file in sorted(report["files"].items())
            if file["summary"]["num_statements"]
        ]
        return cls(report["totals"]["percent_covered"], tuple(modules))

    def problems(self, floor: float, reasons: Mapping[str, str]) -> list[str]:
        """Return what is wrong with it.

        :param floor: the least percentage of the whole.
        :param reasons: why a module is below 60 %, by its path.
        """
        found = []
        if self.percent < floor:
            found.append(f"The tests reach {self.percent:.1f} % of the product, less than the floor of {floor:g} %.")
        low = {module.path: module.percent for module in self.modules if module.percent < _LEAST_OF_A_MODULE}
        found += [
            f"The tests reach {percent:.0f} % of {path}: write more of them, or the reason into pyproject.toml."
            for path, percent in low.items()
            if not reasons.get(path, "").strip()
        ]
        known = {module.path for module in self.modules}
        found += [f"pyproject.toml gives a reason for {path}, which is gone." for path in reasons if path not in known]
        return found


def measure_children(item: pytest.Item) -> None:
    """Measure the processes that a test starts where that is affordable; those of the others inherit nothing."""
    if _children is None:
        return
    if item.nodeid.startswith(_MEASURED_CHILDREN) or os.environ.get(EVERYTHING) == "all":
        os.environ[_CHILDREN] = _children
    else:
        os.environ.pop(_CHILDREN, None)


def save() -> None:
    """Write what this process has measured so far, before its end.

    A worker of pytest-xdist that has not ended ten seconds after its last test is killed (``WorkerController``), with a
    thread left over, say, and all that it has not written is lost. Processes that it has forked write what it had
    measured until then, so it seemed to have lost its last tests only.
    """
    if (coverage := sys.modules.get("coverage")) is not None and (measuring := coverage.Coverage.current()) is not None:
        measuring.save()


@contextmanager
def unmeasured() -> Iterator[None]:
    """Measure nothing of this process meanwhile: thousands of repetitions, which measuring makes twice as long."""
    coverage = sys.modules.get("coverage")
    measuring = coverage.Coverage.current() if coverage is not None else None
    if measuring is None:
        yield
        return
    measuring.stop()
    try:
        yield
    finally:
        measuring.start()


def settings(path: Path = SETTINGS) -> tuple[float, dict[str, str]]:
    """Return the floor, and the reasons of modules below 60 %."""
    tool = tomllib.loads(path.read_text())["tool"]
    return tool["coverage"]["report"]["fail_under"], tool.get("airflow-provider-metaflow", {}).get("low-coverage", {})


def command() -> list[str]:
    """Return how Python is started to be measured."""
    return [sys.executable, "-m", "coverage", "run", "-m"]


def erase() -> None:
    """Forget what was measured before."""
    _coverage("erase")


def report() -> list[str]:
    """Combine what all processes have measured, print it, and return what is wrong with it."""
    _coverage("combine", "--quiet")
    output = ROOT / ".coverage.report.json"
    done = _coverage("json", "--quiet", "--fail-under=0", "-o", str(output))
    if done.returncode:
        return [f"The coverage could not be read: {done.stdout}{done.stderr}"]
    measured = Measured.of_report(json.loads(output.read_text()))
    output.unlink()
    floor, reasons = settings()
    for module in sorted(measured.modules, key=lambda one: one.percent)[:10]:
        print(f"  {module.percent:5.1f} %  {module.path}")
    print("  (the ten least covered modules)")
    print(f"coverage: {measured.percent:.2f} % of lines and branches, floor {floor:g} %")
    return measured.problems(floor, reasons)


def raise_floor(path: Path = SETTINGS) -> str:
    """Raise the floor to what was measured last, rounded down to a tenth; it never falls."""
    measured = float(_coverage("report", "--format=total", "--precision=2", "--fail-under=0").stdout)
    floor, _ = settings(path)
    return write_floor(measured, floor, path)


def write_floor(measured: float, floor: float, path: Path) -> str:
    """Write a floor that is above the one that stands there, and say what was done."""
    new = math.floor(measured * 10) / 10
    if new <= floor:
        return f"The floor stays at {floor:g} %; measured was {measured:g} %."
    text = path.read_text()
    path.write_text(re.sub(r"(?m)^fail_under = .*$", f"fail_under = {new:g}", text, count=1))
    return f"The floor is {new:g} % now, after {floor:g} %."


def _coverage(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "coverage", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def main(arguments: Iterable[str]) -> int:
    """`raise` the floor."""
    if list(arguments) != ["raise"]:
        print("measured.py raise", file=sys.stderr)
        return 2
    print(raise_floor())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
