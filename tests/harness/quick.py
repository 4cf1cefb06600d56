"""`make quick`: lint and the tests that start no process, side by side; at most three minutes on two cores."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.harness import figures

ROOT = Path(__file__).parents[2]

TESTS = (
    "tests/unit",
    "tests/quick",
    "tests/security/test_injection_fuzz.py",
    "tests/security/test_argo_references.py",
)
"""`tests/quick` holds the few tests that start processes and are quick all the same; the fuzz of all texts that users
control, through every target, runs in process and takes about 13 s of one core, Argo's references take 5 s."""

SELECTED = "not subprocess"


def main() -> int:
    """Run both; show what lint says only if it fails, and how long each took."""
    began = time.monotonic()
    lint = subprocess.Popen(
        ["make", "--no-print-directory", "lint"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    workers = os.environ.get("WORKERS", "2")
    command = [sys.executable, "-m", "pytest", "-q", "-n", workers, "-m", SELECTED, *TESTS, *sys.argv[1:]]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "figures.json"
        tests = subprocess.run(command, cwd=ROOT, env={**os.environ, figures.OUTPUT: str(report)}).returncode
        counted = figures.Figures.read(report)
    tested = time.monotonic() - began
    said, _ = lint.communicate()
    if lint.returncode:
        print(said)
    took = time.monotonic() - began
    print(f"lint: {_word(lint.returncode)}; tests: {_word(tests)} ({tested:.0f} s); both {took:.0f} s")
    failed = bool(tests or lint.returncode)
    if os.environ.get("RECORD") and not failed:
        figures.keep("quick", counted, {"pytest": tested, "total": took})
    return int(failed)


def _word(code: int) -> str:
    return "failed" if code else "passed"


if __name__ == "__main__":
    sys.exit(main())
