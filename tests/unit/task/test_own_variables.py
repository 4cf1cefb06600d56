"""A flow that a step starts is a flow of its own: nothing of the environment of the step's task reaches it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from metaflow.client import core
from tests.support.interpreter import python

from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task.own_variables import keep_from_children

OWN = {
    "METAFLOW_FLOW_CONFIG_VALUE": "{}", "METAFLOW_PRODUCTION_TOKEN": "token", "METAFLOW_RUN_ID": "airflow-1",
    "METAFLOW_TASK_ID": "t-start", "METAFLOW_ORCHESTRATOR_OUTCOME": "/outcome", "METAFLOW_CODE_URL": "s3://code",
}  # fmt: skip

KEPT = {
    "METAFLOW_USER": "ann", "METAFLOW_DEFAULT_DATASTORE": "s3", "METAFLOW_RUNTIME_ENVIRONMENT": "kubernetes",
}  # fmt: skip
"""The last says where the process is, which a step may ask for."""


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setattr(os, "environ", {**OWN, **KEPT})
    monkeypatch.setattr(core, "current_namespace", False)
    return os.environ  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["task_decorate", "task_decorate_ctx"])
@pytest.mark.parametrize("fails", [False, True])
def test_the_variables_of_a_task_are_hidden_while_its_step_runs(
    name: str, fails: bool, variables: dict[str, str]
) -> None:
    seen: list[dict[str, str]] = []

    def step() -> None:
        seen.append({name: value for name, value in variables.items() if name.startswith("METAFLOW_")})
        variables["OF_THE_USER"] = "kept"
        if fails:
            raise ValueError("broken")

    decorator: Any = SimpleNamespace(task_decorate_ctx=None)
    if name == "task_decorate":
        decorator.task_decorate = lambda function, *_: function
    else:
        decorator.task_decorate_ctx = lambda _, function: function
    keep_from_children(decorator)
    run = decorator.task_decorate(step, "flow") if name == "task_decorate" else decorator.task_decorate_ctx("s", step)
    if fails:
        with pytest.raises(ValueError, match="broken"):
            run()
    else:
        run()
    assert seen == [KEPT]
    assert {**OWN, "OF_THE_USER": "kept"}.items() <= variables.items()
    # What the step looks up by Metaflow's client is in the namespace of the deployment still.
    assert core.get_namespace() == "production:token"


@pytest.mark.subprocess
def test_a_step_runs_another_flow_with_its_own_configs_and_namespace(tmp_path: Path) -> None:
    """The example of Metaflow's issue 2538, as a task of a deployment."""
    (tmp_path / "child.py").write_text(
        "from metaflow import Config, FlowSpec, current, step\n"
        "class ChildFlow(FlowSpec):\n"
        "    child_config = Config('child_config', default_value='{\"name\": \"child\"}')\n"
        "    @step\n    def start(self):\n"
        "        self.label, self.space = self.child_config.name, current.namespace\n"
        "        self.next(self.end)\n"
        "    @step\n    def end(self): pass\n"
        "if __name__ == '__main__':\n    ChildFlow()\n"
    )
    (tmp_path / "parent.py").write_text(
        "import os\nfrom metaflow import Config, FlowSpec, Runner, step\n"
        "class ParentFlow(FlowSpec):\n"
        "    parent_config = Config('parent_config', default_value='{\"name\": \"parent\"}')\n"
        "    @step\n    def start(self):\n"
        "        child = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'child.py')\n"
        "        with Runner(child, show_output=True).run() as running:\n"
        "            task = running.run['start'].task\n"
        "            self.found = [task['label'].data, task['space'].data]\n"
        "        self.next(self.end)\n"
        "    @step\n    def end(self): pass\n"
        "if __name__ == '__main__':\n    ParentFlow()\n"
    )
    outcome = tmp_path / "outcome.json"
    environment = {
        **os.environ, "METAFLOW_USER": "ann", "METAFLOW_HOME": str(tmp_path), "METAFLOW_DEFAULT_DATASTORE": "local",
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(tmp_path), "METAFLOW_PRODUCTION_TOKEN": "token",
        "METAFLOW_ORCHESTRATOR_OUTCOME": str(outcome), "METAFLOW_RUN_ID": "airflow-1", "METAFLOW_TASK_ID": "t-start",
        "METAFLOW_FLOW_CONFIG_VALUE": json.dumps({"parent_config": {"name": "parent"}}),
    }  # fmt: skip
    top = ["parent.py", "--quiet", "--no-pylint", "--metadata=local", "--datastore=local"]
    init = ["init", "--run-id=airflow-1", "--task-id=t-params"]
    subprocess.run([python(), *top, *init], cwd=tmp_path, env=environment, check=True)
    step = [
        "step", "start", "--run-id=airflow-1", "--task-id=t-start", "--retry-count=0", "--max-user-code-retries=0",
        "--input-paths=airflow-1/_parameters/t-params",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, *top, "--with=orchestrator_internal", *step],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    # The outcome is the parent's, though the child had a step of the same name.
    assert json.loads(outcome.read_text())["next"] == ["end"]
    (found,) = [path for path in (tmp_path / ".metaflow/ChildFlow").iterdir() if path.name.isdigit()]
    assert found.is_dir()
    read = (
        "import metaflow; metaflow.namespace(None); "
        "print(metaflow.Task('ParentFlow/airflow-1/start/t-start').data.found)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", read], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == "['child', 'user:ann']"
