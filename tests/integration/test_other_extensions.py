"""Other extensions of Metaflow beside ours: checkpoint, card-html, ray, torchrun and Netflix's, as PyPI has them.

In a process of its own, since an extension changes Metaflow for all that run in one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PINS = ROOT / "constraints/extensions.txt"
FLOW = ROOT / "tests/flows/extensions/several.py"

COMPILE = """
import json, sys
from pathlib import Path
from airflow_provider_metaflow import MetaflowDag
from metaflow_orchestration.compile.compiler import CompileOptions, load_manifest
from metaflow.extension_support import extension_info
from metaflow_adapters import argo, step_functions
from tests.support.recorded import on_s3
from tests.unit.adapters.step_functions.conftest import SETTINGS

flow, cache = sys.argv[1:]
manifest = load_manifest(Path(flow), CompileOptions(python=sys.executable), Path(cache))
remote = on_s3(manifest, flow)
print(json.dumps({
    "extensions": sorted(extension_info()["installed"]),
    "airflow": sorted(MetaflowDag(flow, "tested").task_ids),
    "argo": argo.compile_flow(remote, namespace="flows").to_yaml(),
    "step-functions": step_functions.compile_flow(remote, settings=SETTINGS).to_json(),
}))
"""

RUN = """
import json, sys
from airflow_provider_metaflow import MetaflowDag
from tests.support.task_runs import FlowRun

dag = MetaflowDag(sys.argv[1], "tested")
run = FlowRun(dag)
states = [run.run("start").state, run.run("start").state, run.run("report").state, run.run("end").state]

from metaflow import Flow, namespace
from metaflow.cards import get_cards
namespace(None)
(found,) = Flow("SeveralExtensionsFlow").runs()
start = found["start"].task
print(json.dumps({
    "states": states,
    "attempt": start["attempt"].data,
    "loaded": start["loaded"].data,
    "cards": [one.get() for one in get_cards(found["report"].task)],
}))
"""

pytestmark = pytest.mark.extended


@pytest.fixture(scope="module")
def extensions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the extensions."""
    folder = tmp_path_factory.mktemp("extensions")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
    subprocess.run([*pip, "--target", str(folder), "--requirement", str(PINS)], check=True, timeout=300)
    return folder


def printed(extensions: Path, folder: Path, script: str, *arguments: str) -> dict[str, object]:
    """Run a script beside the extensions, and return what it has printed last."""
    path = os.pathsep.join([str(extensions), str(ROOT)])
    environment = {
        **os.environ,
        "PYTHONPATH": path,
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(folder),
        "AIRFLOW__METAFLOW__CACHE_FOLDER": str(folder / "cache"),
        "AIRFLOW__METAFLOW__WARM_PROCESS_IDLE_SECONDS": "5",
    }
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_flow_with_other_extensions_compiles_for_all_targets(extensions: Path, tmp_path: Path) -> None:
    found = printed(extensions, tmp_path, COMPILE, str(FLOW), str(tmp_path / "manifests"))
    names = [line.partition("==")[0] for line in PINS.read_text().splitlines() if not line.startswith("#")]
    # Ours is there, too, under a name that depends on how it is installed.
    assert names
    assert set(names) <= set(found["extensions"])  # type: ignore[call-overload]
    assert found["airflow"] == ["end", "report", "start"]
    for target in ("argo", "step-functions"):
        assert "report" in str(found[target])


def test_a_checkpoint_is_loaded_by_the_next_try_on_airflow_and_a_card_of_another_extension_is_made(
    extensions: Path, tmp_path: Path
) -> None:
    found = printed(extensions, tmp_path, RUN, str(FLOW))
    assert found["states"] == ["up_for_retry", "success", "success", "success"]
    assert (found["attempt"], found["loaded"]) == (1, "7")
    (card,) = found["cards"]  # type: ignore[misc]
    assert "of the card" in card
