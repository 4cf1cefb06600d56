"""`make quick-pythons` and `make lock`: the quick layer's unit tests on the other Pythons that we support.

Each has a virtual environment and pins of its own, `constraints/<version>.txt`: pins that were made on one Python
cannot always be installed on another. `constraints/lowest.txt` is one more set of pins, on the Python of the others:
the lowest release of each dependency that `pyproject.toml` allows, but for Airflow, whose oldest release has tests of
its own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.harness.quick import SELECTED

ROOT = Path(__file__).parents[2]
VERSIONS = ("3.10", "3.12", "3.13")
"""Beside 3.11, which everything else runs on."""

LOWEST = "lowest"
"""The set of the lowest dependencies."""

SETS = (*VERSIONS, LOWEST)

_UV = str(Path(sys.executable).parent / "uv")


@dataclass(frozen=True)
class Outcome:
    """How the tests went on one Python, or with the lowest dependencies."""

    version: str
    passed: bool | None
    """None: they were not run."""
    said: str = ""
    """What pytest printed, or why they were not run."""
    seconds: float = 0.0

    def line(self) -> str:
        """Say so in one line."""
        name = "Lowest dependencies" if self.version == LOWEST else f"Python {self.version}"
        if self.passed is None:
            return f"{name}: not run, {self.said}."
        summary = self.said.strip().splitlines()[-1] if self.said.strip() else ""
        return f"{name}: {'passed' if self.passed else 'failed'} ({summary}; {self.seconds:.0f} s)"


def interpreter(version: str) -> Path | None:
    """Return the interpreter of a version: on the path, or one of pyenv or uv; this one for the lowest dependencies."""
    if version == LOWEST:
        return Path(sys.executable)
    if (found := shutil.which(f"python{version}")) and _works(Path(found), version):
        return Path(found)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or Path.home() / ".local/share/uv/python")
    candidates = [*pyenv.glob(f"versions/{version}.*/bin/python"), *uv.glob(f"cpython-{version}.*/bin/python")]
    return next((path for path in sorted(candidates, reverse=True) if _works(path, version)), None)


def _works(python: Path, version: str) -> bool:
    # A shim of pyenv is there for versions that are not chosen, too.
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout.strip() == version


ONE_PYTHON = (
    "tests/unit/check/test_accepted.py",
    "tests/unit/plugin/test_browser.py",
    "tests/unit/test_random_graphs.py",
)
"""Tests by random flows and in a browser, which cost minutes and say nothing more on another Python."""


def run(version: str) -> Outcome:
    """Run the unit tests that start no process on one Python, in a virtual environment that is made if need be."""
    python = interpreter(version)
    if python is None:
        return Outcome(version, None, f"there is no python{version} here")
    began = time.monotonic()
    problem = _install(version, python)
    if problem:
        return Outcome(version, False, problem, time.monotonic() - began)
    workers = os.environ.get("TEST_PYTHONS_WORKERS", "2")  # 0: no process but pytest's own
    command = [str(_venv(version) / "bin/python"), "-m", "pytest", "-q", "-n", workers]
    command += ["-p", "no:cacheprovider", "-m", SELECTED, "tests/unit", *(f"--ignore={name}" for name in ONE_PYTHON)]
    # Coverage is measured on one Python.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    return Outcome(version, done.returncode == 0, done.stdout + done.stderr, time.monotonic() - began)


def run_all(wanted: Sequence[str] = SETS) -> list[Outcome]:
    """Run them on each Python that is wanted, one after the other; print what failed, and a line for each Python."""
    left = "`make quick-pythons` and `make test-extended` do"
    outcomes = [run(version) if version in wanted else Outcome(version, None, left) for version in SETS]
    for outcome in outcomes:
        if outcome.passed is False:
            print(outcome.said)
    for outcome in outcomes:
        print(outcome.line(), flush=True)
    return outcomes


def lock() -> int:
    """Pin packages for each Python, as near to `constraints/constraints.txt` as they can be installed there."""
    for version in VERSIONS:
        pins = ROOT / f"constraints/{version}.txt"
        # What is in the output file is what uv prefers.
        shutil.copy(ROOT / "constraints/constraints.txt", pins)
        command = [_UV, "pip", "compile", "--quiet", "pyproject.toml", "constraints/test.in", "--extra", "airflow"]
        command += ["--python-version", version, "--no-header", "--no-annotate", "--strip-extras"]
        done = subprocess.run([*command, "-o", str(pins)], cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
        if done.returncode:
            return done.returncode
    return 0


def _venv(version: str) -> Path:
    return ROOT / f".venv-{version}"


def _install(version: str, python: Path) -> str:
    """Install the pins and this package; return what went wrong."""
    pins, stamp = ROOT / f"constraints/{version}.txt", _venv(version) / ".installed"
    wanted = hashlib.sha256(pins.read_bytes() + (ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return ""
    inside = ["--quiet", "--python", str(_venv(version) / "bin/python")]
    for command in (
        [_UV, "venv", "--quiet", "--clear", "--python", str(python), str(_venv(version))],
        [_UV, "pip", "install", *inside, "--requirement", str(pins)],
        [_UV, "pip", "install", *inside, "--no-deps", "--editable", "."],
    ):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"`{' '.join(command)}` failed:\n{done.stderr}"
    stamp.write_text(wanted)
    return ""


def main(arguments: Sequence[str]) -> int:
    """`lock`, or the tests on the Pythons that are named (``lowest`` is one of the names), on all without a name."""
    if list(arguments) == ["lock"]:
        return lock()
    return int(any(outcome.passed is False for outcome in run_all(arguments or SETS)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
