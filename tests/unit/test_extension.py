"""The extension, as Metaflow sees it: on a laptop, and in a container that has Metaflow and the code package only."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLOW = ROOT / "tests/flows/cards.py"
# What an image of Metaflow's documentation has: Metaflow, and requests for its metadata service.
IMAGE = ("metaflow", "requests", "urllib3", "certifi", "idna", "charset_normalizer")
Run = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = pytest.mark.subprocess


def test_metaflow_knows_the_extension_by_the_name_of_its_distribution(tmp_path: Path) -> None:
    """Metaflow's uv environment leaves out packages by these names, and uv refuses Metaflow's stand-in for a name."""
    script = "from metaflow.extension_support import extension_info; print(list(extension_info()['installed']))"
    # Metaflow takes a source tree that it finds itself in for another extension.
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['airflow-provider-metaflow']"


@pytest.fixture(scope="module")
def in_container(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run Python where only Metaflow and a copy of the extension can be imported, as in the container of a task."""
    folder = tmp_path_factory.mktemp("container")
    for name in IMAGE:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        (folder / name).symlink_to(Path(spec.origin).parent)
    extension = ROOT / "provider/metaflow_extensions/airflow_provider_metaflow"
    shutil.copytree(extension, folder / "metaflow_extensions/airflow_provider_metaflow")
    # Where it is missing, Metaflow speaks of that and not of the flow.
    datastore = tmp_path_factory.mktemp("datastore")
    (datastore / ".metaflow").mkdir()
    # Nothing of this process: another test's METAFLOW_DATASTORE_SYSROOT_LOCAL, or the measuring of coverage.
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "METAFLOW_USER": "tester"}

    def run(*arguments: str, seed: int = 0) -> subprocess.CompletedProcess[str]:
        variables = environment | {"PYTHONPATH": str(folder), "PYTHONHASHSEED": str(seed)}
        # Not the first `.metaflow` of a folder above, where another test may have run the flow.
        variables["METAFLOW_DATASTORE_SYSROOT_LOCAL"] = str(datastore)
        # Without the site-packages of the interpreter.
        return subprocess.run(
            [sys.executable, "-S", *arguments], cwd=folder, env=variables, capture_output=True, text=True
        )

    return run


@pytest.mark.parametrize("seed", range(1, 7))
def test_cards_are_made_in_a_container_whatever_the_order_of_plugins(in_container: Run, seed: int) -> None:
    """Metaflow loads the groups of commands in the order of a set until one has `card`."""
    done = in_container(str(FLOW), "card", "list", "start", seed=seed)
    # It is `card` that answers: nothing has run yet.
    assert "Flow('CardsFlow') does not exist" in done.stderr


def test_the_commands_of_a_flow_are_listed_in_a_container(in_container: Run) -> None:
    done = in_container(str(FLOW), "--help")
    assert done.returncode == 0, done.stderr
    assert {"airflow", "argo", "sfn", "card"} <= {line.split()[0] for line in done.stdout.splitlines() if line.strip()}


@pytest.mark.parametrize("group", ["airflow", "argo", "sfn"])
def test_a_group_without_its_package_says_what_to_install(in_container: Run, group: str) -> None:
    done = in_container(str(FLOW), group, "create", "--anything")
    assert done.returncode == 1
    assert "airflow-provider-metaflow" in done.stderr
    assert group in done.stderr
    assert "Traceback" not in done.stderr


def test_every_decorator_and_deployer_loads_in_a_container(in_container: Run) -> None:
    script = f"""
from metaflow import Deployer, plugins
from metaflow.plugins import STEP_DECORATORS, FLOW_DECORATORS, DEPLOYER_IMPL_PROVIDERS
assert "orchestrator_internal" in [decorator.name for decorator in STEP_DECORATORS]
deployer = Deployer({str(FLOW)!r})
for name in ("airflow", "argo", "sfn"):
    assert getattr(deployer, name)().TYPE == name, name
print("loaded")
"""
    done = in_container("-c", script)
    assert done.stdout.strip() == "loaded", done.stderr
