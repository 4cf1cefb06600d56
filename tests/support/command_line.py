"""`python flow.py …` in this process: Metaflow's own command line, with a datastore and a home of its own."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True, slots=True)
class Result:
    """What a command has printed, and its exit code."""

    code: int
    output: str


class CommandLine:
    """The terminal of a user.

    :param root: folder of the user's datastore, home and working directory.
    :param monkeypatch: takes back what is changed.
    """

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self._monkeypatch = root, monkeypatch
        monkeypatch.chdir(root)
        monkeypatch.delenv("AIRFLOW_HOME", raising=False)

    def save_parameters(self, flow: str, run_id: str, **values: Any) -> None:
        """Store the parameters of a run in the user's datastore, as `python flow.py run` does."""
        task = self._store(flow).get_task_datastore(run_id, "_parameters", "1", attempt=0, mode="w")
        task.init_task()
        task.save_artifacts(iter(values.items()))
        task.done()

    def parameters(self, flow: str, run_id: str) -> dict[str, Any]:
        """Return the parameters of a run from the user's datastore."""
        (task,) = self._store(flow).get_task_datastores(run_id, ["_parameters"])
        return dict(task.load_artifacts(list(task._objects)))

    def _store(self, flow: str) -> Any:
        from metaflow.datastore import FlowDataStore
        from metaflow.plugins import DATASTORES

        local = next(one for one in DATASTORES if one.TYPE == "local")
        return FlowDataStore(flow, None, storage_impl=local, ds_root=str(self.root / ".metaflow"))

    def run(self, file: Path, *arguments: str, user: str = "alice") -> Result:
        """Run a command of a flow file; errors end it as they do on a terminal."""
        from metaflow import cli, metaflow_config, metaflow_git, metaflow_version
        from metaflow.exception import MetaflowException
        from metaflow.runner.click_api import extract_flow_class_from_file

        # Metaflow asks git for both.
        self._monkeypatch.setattr(metaflow_git, "get_repository_info", lambda *_, **__: {})
        self._monkeypatch.setattr(metaflow_version, "call_git_describe", lambda *_, **__: None)
        self._monkeypatch.setattr(metaflow_config, "USER", user)
        self._monkeypatch.setenv("METAFLOW_HOME", str(self.root / user))
        self._monkeypatch.setattr(sys, "argv", [str(file), *arguments])
        flow_class = extract_flow_class_from_file(str(file))
        root = f"--datastore-root={self.root / '.metaflow'}"
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output), _parameters_of(flow_class):
            try:
                code = cli.main(
                    flow_class(use_cli=False),
                    args=["--no-pylint", "--datastore=local", root, *arguments],
                    handle_exceptions=False,
                )
            except MetaflowException as error:
                print(f"{error.headline}: {error}")
                code = 1
        return Result(int(code or 0), output.getvalue())


@contextlib.contextmanager
def _parameters_of(flow_class: Any) -> Iterator[None]:
    """Give our commands the parameters of a flow; in a process of its own they get them when they are imported."""
    from metaflow import parameters
    from metaflow.parameters import flow_context

    from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.airflow.group import group as airflow
    from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.argo.group import group as argo
    from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.sfn.group import group as sfn

    groups = [airflow, argo, sfn]
    commands = [one for group in groups for one in group.commands.values() if getattr(one, "has_flow_params", False)]
    with flow_context(flow_class):
        for command in commands:
            command.params = list(command.original_params)
            parameters.add_custom_parameters(deploy_mode=False)(command)
        yield
