"""`python flow.py airflow create`, as a user on a laptop calls it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.interpreter import python

from airflow_provider_metaflow import MetaflowDag
from metaflow_orchestration.documents.manifest import read_manifest

pytestmark = pytest.mark.subprocess


class Laptop:
    """A user with a datastore and a home of their own."""

    def __init__(self, root: Path, flows: Path) -> None:
        self.root, self.flows = root, flows
        self.dags = root / "dags"

    def create(
        self,
        flow: str,
        *arguments: str,
        user: str = "alice",
        top: tuple[str, ...] = (),
        group: tuple[str, ...] = (),
        seed: int | None = None,
    ) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name != "AIRFLOW_HOME"}
        environment |= {
            "METAFLOW_USER": user,
            "METAFLOW_HOME": str(self.root / user),
            "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(self.root),
        }
        # Only an interpreter of its own can have one.
        interpreter = python() if seed is None else sys.executable
        environment |= {} if seed is None else {"PYTHONHASHSEED": str(seed)}
        path = self.flows / flow
        command = [interpreter, path.name, "--no-pylint", *top, "airflow", *group, "create", *arguments]
        return subprocess.run(command, cwd=path.parent, env=environment, capture_output=True, text=True)

    def token(self, file: Path) -> str:
        return read_manifest(file.with_suffix(".metaflow.json")).deployment.production_token


@pytest.fixture
def laptop(tmp_path: Path, flows: Path) -> Laptop:
    return Laptop(tmp_path, flows)


def test_create_writes_a_dag_file_of_three_lines_that_parses_anywhere(laptop: Laptop, tmp_path: Path) -> None:
    result = laptop.create("linear.py", str(tmp_path / "deep" / "my_dag.py"))
    assert result.returncode == 0, result.stdout + result.stderr
    text = (tmp_path / "deep" / "my_dag.py").read_text()
    assert "DAG(" in text
    assert len([line for line in text.splitlines() if line.strip()]) == 3
    assert str(tmp_path) not in text
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"my_dag.py", "my_dag.metaflow.json"}


def test_two_creates_give_the_same_bytes(laptop: Laptop, tmp_path: Path) -> None:
    laptop.create("decorators.py", str(tmp_path / "one.py"), seed=1)
    laptop.create("decorators.py", str(tmp_path / "two.py"), seed=2)
    one, two = ((tmp_path / f"{name}.metaflow.json").read_bytes() for name in ("one", "two"))
    assert one == two


def test_options_end_up_in_the_manifest(laptop: Laptop, tmp_path: Path) -> None:
    result = laptop.create(
        "linear.py", str(tmp_path / "dag.py"), "--tag=a", "--tag=b", "--namespace=mine", "--max-workers=7",
        "--workflow-timeout=90", "--worker-pool=ml", "--is-paused-upon-creation", group=("--name", "renamed"),
        top=("--with", "retry:times=2"),
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    manifest = read_manifest(tmp_path / "dag.metaflow.json")
    made = manifest.deployment
    assert (made.name, made.tags, made.namespace, made.max_workers) == ("renamed", ("a", "b"), "mine", 7)
    assert (made.workflow_timeout, made.worker_pool, made.is_paused_upon_creation) == (90, "ml", True)
    assert manifest.graph.step("middle").retry.user == 2
    assert any(spec.startswith("retry:") for spec in manifest.graph.step("middle").with_specs)
    # The pool must exist before the DAG runs: here is how.
    assert f"airflow pools import {tmp_path}/dag.pools.json" in result.stdout + result.stderr
    assert "ml" in json.loads((tmp_path / "dag.pools.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "group", "message"),
    [
        (["linear.py"], (), "cannot be the same as flow file"),
        ([], (), "METAFLOW_AIRFLOW_DAGS_FOLDER"),
        (["x.txt"], (), "has no .py suffix"),
        (["/proc/x/dag.py"], (), "cannot be written"),
        (["dag.py"], ("--name", "a b"), "'a b' cannot be a DAG id"),
        (["dag.py"], ("--name", "x" * 251), "has 251 characters"),
        (["dag.py", "--max-workers=0"], (), "--max-workers is 0"),
        (["dag.py", "--tag", ""], (), "--tag"),
    ],
)
def test_bad_input_gets_one_message_and_leaves_no_file(
    laptop: Laptop, tmp_path: Path, arguments: list[str], group: tuple[str, ...], message: str
) -> None:
    file = [str(tmp_path / name) if name == "dag.py" else name for name in arguments]
    result = laptop.create("linear.py", *file, group=group)
    text = result.stdout + result.stderr
    assert result.returncode != 0
    assert message in text
    assert "LinearFlow" in text or "linear.py" in text
    assert "Traceback" not in text
    assert not list(tmp_path.glob("dag*"))


def test_a_read_only_datastore_is_told_by_its_place(laptop: Laptop, tmp_path: Path) -> None:
    (tmp_path / ".metaflow").write_text("a file where the datastore's folder should be")
    result = laptop.create("linear.py", str(tmp_path / "dag.py"))
    assert result.returncode != 0
    assert str(tmp_path / ".metaflow") in result.stdout + result.stderr
    assert not list(tmp_path.glob("dag*"))


def test_resources_are_ignored_with_one_warning_that_names_the_step(laptop: Laptop, tmp_path: Path) -> None:
    result = laptop.create("decorators.py", str(tmp_path / "dag.py"))
    (line,) = [line for line in (result.stdout + result.stderr).splitlines() if "@resources" in line]
    assert "flow DecoratorsFlow" in line
    assert "with_card" in line


def test_a_token_that_was_given_or_generated_is_remembered(laptop: Laptop, tmp_path: Path) -> None:
    dag = tmp_path / "dag.py"
    laptop.create("linear.py", str(dag))
    first = laptop.token(dag)
    assert first.startswith("linearflow-0-")
    laptop.create("linear.py", str(dag), "--generate-new-token")
    second = laptop.token(dag)
    assert second.startswith("linearflow-1-")
    laptop.create("linear.py", str(dag))
    assert laptop.token(dag) == second
    laptop.create("linear.py", str(dag), "--new-token", "production:mine")
    laptop.create("linear.py", str(dag))
    assert laptop.token(dag) == "mine"
    refused = laptop.create("linear.py", str(dag), "--generate-new-token")
    assert "not supported after using --new-token" in refused.stdout + refused.stderr


def test_somebody_else_needs_the_token_to_deploy_again(laptop: Laptop, tmp_path: Path) -> None:
    dag = tmp_path / "dag.py"
    laptop.create("linear.py", str(dag))
    refused = laptop.create("linear.py", str(dag), user="bob")
    assert refused.returncode != 0
    assert "deployed to Airflow by the user alice" in refused.stdout + refused.stderr
    allowed = laptop.create("linear.py", str(dag), "--authorize", f"production:{laptop.token(dag)}", user="bob")
    assert allowed.returncode == 0, allowed.stdout + allowed.stderr
    # The token is cached, so that it is needed once only.
    assert laptop.create("linear.py", str(dag), user="bob").returncode == 0


def test_a_project_is_deployed_under_the_name_of_its_branch(laptop: Laptop, tmp_path: Path) -> None:
    result = laptop.create("project/configured.py", str(tmp_path / "dag.py"), top=("--production",))
    assert result.returncode == 0, result.stdout + result.stderr
    manifest = read_manifest(tmp_path / "dag.metaflow.json")
    assert manifest.deployment.name == "testproject.prod.ConfiguredFlow"
    assert manifest.deployment.production_token.startswith("mfprj-")
    assert "--production" in manifest.command.top_level
    refused = laptop.create("project/configured.py", str(tmp_path / "dag.py"), group=("--name", "x"))
    assert "--name is not supported for @projects" in refused.stdout + refused.stderr


def test_a_project_of_a_user_with_an_address_of_mail_is_deployed(laptop: Laptop, tmp_path: Path) -> None:
    result = laptop.create("project/configured.py", str(tmp_path / "dag.py"), user="user@mail.example")
    assert result.returncode == 0, result.stdout + result.stderr
    manifest = read_manifest(tmp_path / "dag.metaflow.json")
    name = manifest.deployment.name
    assert re.fullmatch(r"testproject\.user\.user-mail\.example\.ConfiguredFlow-[0-9a-f]{6}", name)
    assert manifest.graph.project is not None
    assert manifest.graph.project.branch == "user.user@mail.example"
    assert MetaflowDag(tmp_path / "dag.metaflow.json").dag_id == name


def test_of_two_creates_at_once_one_wins_whole(flows: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(tmp_path)}
    target = tmp_path / "dags" / "linear.py"
    command = [sys.executable, "linear.py", "--no-pylint", "--quiet", "airflow", "create", str(target), "--tag"]
    many = [subprocess.Popen([*command, f"t{n}"], cwd=flows, env=environment) for n in range(4)]
    assert [process.wait() for process in many] == [0] * 4
    (tag,) = read_manifest(target.with_suffix(".metaflow.json")).deployment.tags
    assert tag in {"t0", "t1", "t2", "t3"}
    assert sorted(path.name for path in target.parent.iterdir()) == ["linear.metaflow.json", "linear.py"]
