"""A test that passes only on a second try is named, with the failure of the first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.subprocess

ROOT = Path(__file__).parents[3]

CONFTEST = """
from tests.harness import figures

def pytest_configure(config):
    figures.register(config)
"""

TESTS = """
import pathlib
import pytest

tries = pathlib.Path(__file__).with_name("tries")

def again(most):
    with tries.open("a") as file:
        file.write("x")
    assert len(tries.read_text()) > most, "the reason of the first try"

@pytest.mark.flaky(reruns=1)
def test_second(): again(1)

@pytest.mark.flaky(reruns=1)
def test_never(): again(1000)

def test_unmarked(): again(1000)

def test_well(): pass
"""


def session(folder: Path, source: str, *arguments: str) -> tuple[str, dict[str, object]]:
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_some.py").write_text(source)
    figures = folder / "figures.json"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TEST_FIGURES": str(figures)},
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr, json.loads(figures.read_text()) if figures.exists() else {}


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_a_test_that_passes_on_its_second_try_is_named_with_its_first_failure(
    tmp_path: Path, workers: tuple[str, ...]
) -> None:
    told, figures = session(tmp_path, TESTS, *workers)
    assert "FLAKY test_some.py::test_second" in told
    assert "FAILED TWICE test_some.py::test_never" in told
    _, _, summary = told.partition("tests that were tried again")
    assert summary.count("the reason of the first try") >= 2
    # What is not marked has one try.
    assert (tmp_path / "tries").read_text() == "x" * 5
    assert "2 failed, 2 passed, 2 rerun" in told
    assert figures["flaky"] == ["test_some.py::test_second"]


def test_a_test_that_asks_for_more_tries_is_refused(tmp_path: Path) -> None:
    told, _ = session(tmp_path, TESTS.replace("reruns=1", "reruns=3", 1))
    assert "test_second is tried more than twice" in told
    assert not (tmp_path / "tries").exists()
