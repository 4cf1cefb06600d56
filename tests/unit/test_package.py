"""What PyPI and a laptop get: metadata, extras, and the files that a source distribution holds."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
SOURCE = f"{PROJECT['urls']['Source']}/blob/main/"
RAW = SOURCE.replace("https://github.com/", "https://raw.githubusercontent.com/").replace("/blob/", "/")


def _installs_airflow(extra: str) -> bool:
    return any(requirement.startswith("apache-airflow>=") for requirement in EXTRAS[extra])


@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_an_extra_installs_airflow_only_if_its_name_says_so(extra: str) -> None:
    assert _installs_airflow(extra) == extra.startswith("airflow")


def test_no_extra_names_the_package_itself() -> None:
    # Metaflow orders its extensions by what they require, and finds no order for one that requires itself.
    assert [one for extra in EXTRAS.values() for one in extra if one.startswith("airflow-provider-metaflow")] == []
    assert [one for extra in EXTRAS.values() for one in extra if one.startswith("apache-airflow-providers")]


def test_each_extra_that_a_hint_or_a_page_names_exists() -> None:
    files = [
        *ROOT.glob("provider/**/*.py"),
        *ROOT.glob("adapters/**/*.py"),
        *ROOT.glob("docs/**/*.md"),
        ROOT / "README.md",
    ]
    named = {
        extra
        for file in files
        for found in re.findall(r"airflow-provider-metaflow\[([\w,-]+)\]", file.read_text())
        for extra in found.split(",")
    }
    assert {"airflow", "argo"} <= named
    assert named <= set(EXTRAS)


def test_the_classifiers_name_the_pythons_that_are_tested() -> None:
    prefix = "Programming Language :: Python :: 3."
    minors = {int(one.removeprefix(prefix)) for one in PROJECT["classifiers"] if one.startswith(prefix)}
    # The other Pythons have a file of their own in constraints/; constraints.txt is for 3.11.
    pinned = {int(path.stem.removeprefix("3.")) for path in (ROOT / "constraints").glob("3.*.txt")}
    assert minors == pinned | {11}
    assert PROJECT["requires-python"] == f">=3.{min(minors)}"


def test_the_readme_has_no_relative_link_since_pypi_shows_it_too() -> None:
    text = (ROOT / "README.md").read_text()
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    for link in links:
        for base in (SOURCE, RAW):
            if link.startswith(base):
                assert (ROOT / link.removeprefix(base).partition("#")[0]).exists(), link


def test_the_source_distribution_holds_tests_docs_and_constraints() -> None:
    lines = (ROOT / "MANIFEST.in").read_text().split("\n")
    assert {"graft tests", "graft docs", "graft constraints"} <= set(lines)
    for line in lines:
        kind, _, names = line.partition(" ")
        if kind in ("include", "graft"):
            for name in names.split():
                assert (ROOT / name).exists(), name


def test_every_page_that_a_release_needs_is_there() -> None:
    for name in (
        "CODE_OF_CONDUCT.md",
        "RELEASING.md",
        "SECURITY.md",
        "CONTRIBUTING.md",
        ".github/ISSUE_TEMPLATE/bug.yml",
    ):
        assert (ROOT / name).read_text().strip(), name
    assert PROJECT["license"] == "Apache-2.0"
    assert not [one for one in PROJECT["classifiers"] if one.startswith("License ::")]


def test_the_workflow_runs_the_commands_of_the_ci() -> None:
    import yaml

    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    commands = [step.get("run", "") for job in jobs.values() for step in job["steps"]]
    targets = {
        line.split(":")[0] for line in (ROOT / "Makefile").read_text().split("\n") if re.match(r"[a-z-]+:", line)
    }
    for target in ("lint", "quick", "docs", "package"):
        assert f"make {target}" in commands
        assert target in targets
    assert ".ci/run" in commands
    # Nothing is published before everything has passed, and there is no token of PyPI.
    assert {"lint", "quick", "full", "docs", "package"} <= set(jobs["publish"]["needs"])
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
