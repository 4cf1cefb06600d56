"""The unit tests on other Pythons: what is said of each."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import tomllib
from packaging.requirements import Requirement
from packaging.version import Version
from tests.harness import pythons
from tests.harness.pythons import VERSIONS, Outcome


def test_a_python_that_is_not_there_is_said_to_be_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pythons, "interpreter", lambda version: None)
    outcome = pythons.run("3.13")
    assert outcome.passed is None
    assert outcome.line() == "Python 3.13: not run, there is no python3.13 here."


def test_what_is_left_to_the_extended_layer_is_said_to_be_not_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pythons, "run", lambda version: Outcome(version, True, "7 passed in 1s", 1))
    pythons.run_all(("3.10",))
    assert capsys.readouterr().out.splitlines() == [
        "Python 3.10: passed (7 passed in 1s; 1 s)",
        "Python 3.12: not run, `make quick-pythons` and `make test-extended` do.",
        "Python 3.13: not run, `make quick-pythons` and `make test-extended` do.",
        "Lowest dependencies: not run, `make quick-pythons` and `make test-extended` do.",
    ]


def test_each_outcome_is_one_line() -> None:
    assert Outcome("3.10", True, "..\n900 passed in 60s\n", 61.2).line() == (
        "Python 3.10: passed (900 passed in 60s; 61 s)"
    )
    assert Outcome("3.10", False, "uv is missing", 1).line() == "Python 3.10: failed (uv is missing; 1 s)"


def test_each_python_has_pins_of_its_own_with_the_same_metaflow() -> None:
    (metaflow,) = [line for line in pins("constraints") if line.startswith("metaflow==")]
    for version in VERSIONS:
        assert metaflow in pins(version)


def test_the_lowest_dependencies_are_those_that_the_package_allows() -> None:
    """Beside those that Airflow's own packages rule out: `constraints/README.md` names them."""
    lowest = dict(line.split("==") for line in pins("lowest") if "==" in line)
    ruled_out = {"croniter", "rich", "tenacity", "kubernetes"}
    project = tomllib.loads((pythons.ROOT / "pyproject.toml").read_text())["project"]
    bounds = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    names = set()
    for bound in map(Requirement, bounds):
        if bound.name != "apache-airflow" and bound.name not in ruled_out:
            (least,) = [one.version for one in bound.specifier if one.operator == ">="]
            found = Version(lowest[bound.name])
            # `>=9` is 9.0.0, and 1.35 may have begun with a patch of it.
            assert found in bound.specifier, bound
            assert found.release[: len(Version(least).release)] == Version(least).release, bound
            names.add(bound.name)
    assert {"metaflow", "msgspec", "boto3", "hera", "httpx"} <= names


def pins(name: str) -> list[str]:
    return (pythons.ROOT / f"constraints/{name}.txt").read_text().splitlines()


@pytest.mark.subprocess
def test_an_interpreter_of_pyenv_is_found_and_one_of_another_version_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    for folder in (f"{version}.99", "3.99.1"):
        (tmp_path / "versions" / folder / "bin").mkdir(parents=True)
        (tmp_path / "versions" / folder / "bin/python").symlink_to(sys.executable)
    assert pythons.interpreter(version) == tmp_path / "versions" / f"{version}.99" / "bin/python"
    assert pythons.interpreter("3.99") is None
