"""The oldest Airflow that we support parses and runs flows; `make test-extended` installs it beside the newest."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tests.support.results import artifacts

pytestmark = pytest.mark.extended

PYTHON = Path(__file__).parents[2] / ".venv-oldest" / "bin" / "python"

SCRIPT = """
import sys
from pathlib import Path
import airflow
from airflow_provider_metaflow.embedded.airflow import EmbeddedAirflow
from metaflow_orchestration.compile.compiler import CompileOptions, load_manifest
from airflow_provider_metaflow.deploy.dag_file import write
from airflow_provider_metaflow.rest import dags, runs

home = Path(sys.argv[1])
names = {}
with EmbeddedAirflow(home=home) as server:
    for file in sys.argv[2:]:
        manifest = load_manifest(Path(file), CompileOptions(python=sys.executable), home / "cache")
        list(write(server.dags / f"{manifest.graph.name}.py", manifest))
        names[manifest.graph.name] = None
    for name in names:
        dags.wait_for_dag(server.client, name)
        dags.set_paused(server.client, name, paused=False)
        names[name] = runs.trigger(server.client, name, "oldest", {}).dag_run_id
    for name, run in names.items():
        print("RESULT", airflow.__version__, name, runs.wait_for_run(server.client, name, run, timeout=400))
"""


CLEARED = """
import sys, time
from pathlib import Path
from airflow_provider_metaflow.embedded.airflow import EmbeddedAirflow
from metaflow_orchestration.compile.compiler import CompileOptions, load_manifest
from airflow_provider_metaflow.deploy.dag_file import write
from airflow_provider_metaflow.rest import dags, runs

home = Path(sys.argv[1])
hold, notes = home / "hold", home / "notes"
hold.touch()

def attempts(count):
    end = time.monotonic() + 300
    while not (notes.exists() and len(notes.read_text().split()) == count):
        assert time.monotonic() < end, notes.exists() and notes.read_text()
        time.sleep(0.5)

with EmbeddedAirflow(home=home) as server:
    manifest = load_manifest(Path(sys.argv[2]), CompileOptions(python=sys.executable), home / "cache")
    name = manifest.graph.name
    list(write(server.dags / f"{name}.py", manifest))
    dags.wait_for_dag(server.client, name)
    dags.set_paused(server.client, name, paused=False)
    run = runs.trigger(server.client, name, "oldest", {"folder": str(home)})
    attempts(1)
    body = {"dry_run": False, "dag_run_id": run.dag_run_id, "task_ids": ["work"], "only_failed": False}
    server.client.request("POST", f"/dags/{name}/clearTaskInstances", json=body)
    attempts(2)
    hold.unlink()
    print("RESULT", run.run_id, runs.wait_for_run(server.client, name, run.dag_run_id, timeout=400))
"""


def on_the_oldest(script: str, home: Path, *flows: Path) -> list[list[str]]:
    """Run a script on the oldest Airflow, and return the words of the results that it has printed."""
    if not PYTHON.exists():
        pytest.fail(f"{PYTHON} is missing; `make test-extended` makes it.")
    result = subprocess.run(
        [PYTHON, "-c", script, home, *flows],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
            "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(home),
        },
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return [line.split()[1:] for line in result.stdout.splitlines() if line.startswith("RESULT")]


def test_the_oldest_supported_airflow_runs_flows(flows: Path, tmp_path: Path) -> None:
    shapes = ("nested_foreach", "switch", "switch_in_split", "switch_in_foreach")
    found = on_the_oldest(SCRIPT, tmp_path, *(flows / f"{shape}.py" for shape in shapes))
    assert [release.rsplit(".", 1)[0] for release, _, _ in found] == ["3.1"] * len(shapes)
    assert [state for _, _, state in found] == ["success"] * len(shapes), found


def test_a_task_that_is_cleared_while_it_runs_runs_its_code_again_and_not_its_fallback(
    flows: Path, tmp_path: Path
) -> None:
    """Airflow counts the clears of running tasks from 3.3 on."""
    ((run_id, state),) = on_the_oldest(CLEARED, tmp_path, flows / "again.py")
    assert state == "success"
    assert (tmp_path / "notes").read_text().split() == ["0", "1"]
    (work,) = artifacts(tmp_path, "AgainFlow", run_id)["work"].values()
    assert (work["worked"], work.get("problem")) == ("a", None)
