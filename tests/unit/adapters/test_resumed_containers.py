"""Containers of a resumed run, as Argo Workflows and Step Functions start them, with Metaflow's own processes."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from metaflow.datastore import FlowDataStore
from metaflow.plugins import DATASTORES
from tests.support.environment import environment_variable

from metaflow_adapters.documents import flow_document, origin_text, step_document
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task.resumed_run import change_parameters
from metaflow_orchestration.compile.compiler import CompileOptions, load_manifest

pytestmark = pytest.mark.subprocess

ROOT = Path(__file__).parents[3]
FLOWS = ROOT / "tests/flows"
EXTENSION = ROOT / "provider/metaflow_extensions/airflow_provider_metaflow/plugins/orchestrator/task"
LOCAL = next(one for one in DATASTORES if one.TYPE == "local")
MAIN = """
import json, sys
sys.path.insert(0, sys.argv[1])
import container_task
sys.path.pop(0)
sys.exit(container_task.main(json.loads(sys.argv[2]), sys.argv[3]))
"""
GANG = """
from metaflow import FlowSpec, current, parallel, step


class ResumedFlow(FlowSpec):
    @step
    def start(self):
        self.next(self.train, num_parallel=2)

    @parallel
    @step
    def train(self):
        print("trains")
        self.node = current.parallel.node_index
        self.next(self.gather)

    @step
    def gather(self, inputs):
        self.nodes = sorted(one.node for one in inputs)
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    ResumedFlow()
"""
TASKS = [("start", ""), ("body", "0"), ("body", "1"), ("collect", ""), ("end", "")]


class Containers:
    """The containers of a deployed flow; each run is driven by the test."""

    def __init__(self, root: Path, text: str) -> None:
        self.root, self.count = root, 0
        self.variables: dict[str, str] = {}
        """Further variables, e.g. of a node of a gang."""
        self.deploy(text)

    def deploy(self, text: str) -> None:
        self.count += 1
        self.folder = self.root / f"flow-{self.count}"
        self.folder.mkdir()
        self.file = self.folder / "resumed.py"
        self.file.write_text(text)
        with environment_variable("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(self.root)):
            options = CompileOptions(python=sys.executable)
            self.manifest = load_manifest(self.file, options, self.root / "cache")

    def run(self, run_id: str, step: str, place: str = "", origin: str = "", **given: str) -> str:
        """Run a task, and return what its container has printed."""
        told = {"foreach": ["splits"], "parallel": ["nodes"]}.get(self.manifest.graph.step(step).kind.value, [])
        document = {
            **flow_document(self.manifest),
            **step_document(
                self.manifest, self.manifest.graph.step(step), environment={},
                outputs={name: str(self.root / name) for name in told}, retries=0,
            ),
            "flow_file": self.file.name,
        }  # fmt: skip
        variables = {
            "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(self.root),
            "METAFLOW_USER": "ann",
            "METAFLOW_ORCHESTRATOR_RUN": run_id,
            "METAFLOW_ORCHESTRATOR_PLACE": place,
            "METAFLOW_ORCHESTRATOR_ORIGIN": origin,
            "METAFLOW_ORCHESTRATOR_PARAMETERS": base64.b64encode(json.dumps(given).encode()).decode(),
            **self.variables,
        }
        done = subprocess.run(
            [sys.executable, "-c", MAIN, str(EXTENSION), json.dumps(document), str(self.folder)],
            cwd=self.folder, env={**os.environ, **variables}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode in (0, 1, 202), done.stderr
        return f"{done.returncode}\n{done.stdout}{done.stderr}"

    def run_all(self, run_id: str, origin: str = "", tasks: list[tuple[str, str]] = TASKS, **given: str) -> list[str]:
        """Run tasks that must succeed; return those that were taken over."""
        ended = {f"{step}{place}": self.run(run_id, step, place, origin, **given) for step, place in tasks}
        assert {name: text for name, text in ended.items() if not text.startswith("0\n")} == {}
        return [name for name, text in ended.items() if "is cloned" in text]

    def run_by_metaflow(self, *arguments: str) -> str:
        """Run the flow without any orchestrator, and return its run id; the run may fail."""
        # Metaflow starts the nodes of a gang as `python`.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        variables = {"METAFLOW_DATASTORE_SYSROOT_LOCAL": str(self.root), "METAFLOW_USER": "ann", "PATH": path}
        subprocess.run(
            [sys.executable, str(self.file), "--no-pylint", "--datastore=local", "--metadata=local", "run",
             f"--run-id-file={self.root / 'id'}", *arguments],
            cwd=self.root, env={**os.environ, **variables}, capture_output=True, check=False,
        )  # fmt: skip
        return (self.root / "id").read_text()

    def artifact(self, run: str, step: str, name: str, at: str = "") -> Any:
        store = FlowDataStore("ResumedFlow", None, storage_impl=LOCAL, ds_root=str(self.root / ".metaflow"))
        return store.get_task_datastore(run, step, at if step == "_parameters" else f"t-{step}{at}")[name]


@pytest.fixture
def containers(tmp_path: Path) -> Containers:
    return Containers(tmp_path, (FLOWS / "resumed.py").read_text())


@pytest.mark.extended
def test_a_resumed_run_has_the_parameters_that_it_is_given_and_all_others_of_its_origin(
    containers: Containers,
) -> None:
    values = {"alpha": "2", "unlucky": "True", "untouched": "mine"}
    for step, place in TASKS[:2]:
        assert containers.run("argo-1", step, place, **values).startswith("0\n")
    assert "an unlucky split" in containers.run("argo-1", "body", "1", **values)
    # Argo fills in the defaults of today, whatever the origin had.
    given = {"alpha": "5", "unlucky": "False", "untouched": "new default"}
    origin = origin_text("argo-1", [], ["alpha", "unlucky"], "ResumedFlow")
    assert containers.run_all("argo-2", origin, **given) == ["start", "body0"]
    assert containers.artifact("argo-2", "_parameters", "untouched", "t-params") == "mine"
    assert containers.artifact("argo-2", "start", "alpha") == 2
    assert containers.artifact("argo-2", "collect", "bodies") == [(2, 10), (5, 20)]
    assert containers.artifact("argo-2", "end", "of_end") == (5, [10, 20], False, "mine", 7)
    assert containers.artifact("argo-2", "end", "origin") == "argo-1"
    assert (containers.root / "splits").read_text() == "2"


@pytest.mark.extended
def test_what_follows_a_new_step_runs_again(containers: Containers) -> None:
    """The new step ran, and the step behind it was taken over from a run without it."""
    containers.run_all("argo-1")
    added = "    @step\n    def added(self):\n        self.alpha_plus = self.alpha + 1\n        self.next(self.end)\n\n"
    text = containers.file.read_text().replace("self.next(self.end)", "self.next(self.added)")
    containers.deploy(text.replace("    @step\n    def end(self):", added + "    @step\n    def end(self):"))
    tasks = [*TASKS[:4], ("added", ""), TASKS[4]]
    assert containers.run_all("argo-2", "argo-1", tasks) == ["start", "body0", "body1"]
    assert containers.artifact("argo-2", "end", "alpha_plus") == 2


def test_a_run_that_metaflow_itself_made_is_resumed(containers: Containers) -> None:
    run_id = containers.run_by_metaflow("--alpha=2", "--unlucky=True")
    origin = origin_text(run_id, [], ["unlucky"], "ResumedFlow")
    assert containers.run_all("sfn-2", origin, unlucky="False") == ["start", "body0"]
    assert containers.artifact("sfn-2", "end", "of_end") == (2, [10, 20], False, "default", 7)


def test_a_run_that_has_stored_nothing_is_named_and_not_tried_again(containers: Containers) -> None:
    ended = containers.run("argo-2", "start", "", "argo-none")
    assert ended.startswith("202\n")
    assert "flow ResumedFlow: the run argo-none, which is to be resumed, has stored no parameters" in ended


@pytest.mark.extended
def test_every_node_of_a_finished_gang_is_taken_over_by_the_node_in_its_place(tmp_path: Path) -> None:
    """The control node was; the others ran the user's code, which waited for it."""
    containers = Containers(tmp_path, GANG)
    origin = origin_text(containers.run_by_metaflow(), ["gather", "end"], [], "ResumedFlow")
    assert containers.run("sfn-2", "start", "", origin).startswith("0\n")
    for index in range(2):
        containers.variables = {
            "METAFLOW_ORCHESTRATOR_NODES": "2",
            "METAFLOW_ORCHESTRATOR_GANG": "job",
            "AWS_BATCH_JOB_NODE_INDEX": str(index),
        }
        ended = containers.run("sfn-2", "train", "", origin)
        assert ended.startswith("0\n")
        assert "is cloned" in ended
        assert "trains" not in ended
    containers.variables = {}
    assert containers.run("sfn-2", "gather", "", origin).startswith("0\n")
    assert containers.artifact("sfn-2", "gather", "nodes") == [0, 1]


@pytest.mark.extended
def test_a_run_that_goes_on_in_place_with_other_parameters_has_them_in_each_step_that_runs_again(
    containers: Containers,
) -> None:
    for step, place in TASKS[:2]:
        assert containers.run("sfn-1", step, place, unlucky="True").startswith("0\n")
    assert "an unlucky split" in containers.run("sfn-1", "body", "1", unlucky="True")
    store = FlowDataStore("ResumedFlow", None, storage_impl=LOCAL, ds_root=str(containers.root / ".metaflow"))
    metadata = SimpleNamespace(register_metadata=lambda *_: None)
    change_parameters(store, metadata, "sfn-1", {"alpha": 5, "unlucky": False})
    containers.variables = {"METAFLOW_ORCHESTRATOR_CHANGED": "1"}
    containers.run_all("sfn-1", tasks=TASKS[2:])
    assert containers.artifact("sfn-1", "collect", "bodies") == [(1, 10), (5, 20)]
    assert containers.artifact("sfn-1", "end", "of_end") == (5, [10, 20], False, "default", 7)
