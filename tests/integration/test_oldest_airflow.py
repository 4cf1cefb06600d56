"""The oldest Airflow that we support parses and runs flows; `make test-extended` installs it beside the newest."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

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


def test_the_oldest_supported_airflow_runs_flows(flows: Path, tmp_path: Path) -> None:
    if not PYTHON.exists():
        pytest.fail(f"{PYTHON} is missing; `make test-extended` makes it.")
    shapes = ("nested_foreach", "switch", "switch_in_split", "switch_in_foreach")
    result = subprocess.run(
        [PYTHON, "-c", SCRIPT, tmp_path, *(flows / f"{shape}.py" for shape in shapes)],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
            "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(tmp_path),
        },
        capture_output=True,
        text=True,
    )
    found = [line.split() for line in result.stdout.splitlines() if line.startswith("RESULT")]
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert [line[1].rsplit(".", 1)[0] for line in found] == ["3.1"] * len(shapes)
    assert [line[3] for line in found] == ["success"] * len(shapes), found
