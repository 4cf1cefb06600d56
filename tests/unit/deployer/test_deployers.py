"""`Deployer(…).airflow()`, `.argo()` and `.sfn()`: what `create` takes and returns, and what stubs show."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from metaflow.plugins.argo import argo_workflows_deployer_objects
from metaflow.plugins.argo.argo_workflows_cli import argo_workflows
from metaflow.plugins.aws.step_functions import step_functions_deployer_objects
from metaflow.plugins.aws.step_functions.step_functions_cli import step_functions

from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.airflow.group import group as airflow
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.argo.group import group as argo
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.sfn.group import group as sfn
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.deployer import (
    airflow_deployer_objects,
    argo_deployer_objects,
    sfn_deployer_objects,
)
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.deployer.airflow_deployer import AirflowDeployer
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.deployer.airflow_deployer_objects import (
    AirflowDeployedFlow,
)
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.deployer.airflow_triggered_run import (
    AirflowTriggeredRun,
)
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.deployer.argo_deployer import ArgoDeployer
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.deployer.argo_deployer_objects import (
    ArgoDeployedFlow,
    ArgoTriggeredRun,
)
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.deployer.sfn_deployer import SfnDeployer
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.deployer.sfn_deployer_objects import (
    SfnDeployedFlow,
    SfnTriggeredRun,
)

DEPLOYERS = [
    (AirflowDeployer, AirflowDeployedFlow, airflow),
    (ArgoDeployer, ArgoDeployedFlow, argo),
    (SfnDeployer, SfnDeployedFlow, sfn),
]
# What no user of the Deployer gives: documents are printed by the command line.
HIDDEN = {"manifest_only", "deployer_attribute_file"}


@pytest.fixture
def created(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Notes what deployers are to create, with which options."""
    found: list[Any] = []
    for deployer, _, _ in DEPLOYERS:
        monkeypatch.setattr(deployer, "_create", lambda _, kind, **given: found.append((kind, given)) or "created")
        monkeypatch.setattr(deployer, "name", "d", raising=False)
    return found


@pytest.mark.parametrize(("deployer", "flow", "group"), DEPLOYERS)
def test_a_deployer_creates_deployed_flows_of_its_own_kind_with_the_options_given(
    deployer: Any, flow: type, group: Any, created: list[Any]
) -> None:
    assert group.name == deployer.TYPE
    assert deployer.deployed_flow_type() is flow
    one = deployer.__new__(deployer)
    assert one.create(max_workers=3, tags=["a"], user_namespace=None) == "created"
    assert created == [(flow, {"max_workers": 3, "tags": ["a"]})]


@pytest.mark.parametrize(("deployer", "flow", "group"), DEPLOYERS)
def test_create_has_a_parameter_with_type_and_text_for_each_option_of_the_command_line(
    deployer: Any, flow: type, group: Any
) -> None:
    parameters = inspect.signature(deployer.create).parameters
    options = {one.name: one for one in group.commands["create"].params if one.name not in HIDDEN}
    if deployer is not AirflowDeployer:
        # It goes with the hidden option.
        del options["file"]
    assert set(parameters) - {"self"} == set(options)
    for name, option in options.items():
        assert parameters[name].default == (option.default if option.default != () else None), name
        assert parameters[name].annotation is not inspect.Parameter.empty
        # Python 3.13 takes the indentation out of docstrings.
        assert f"\n{name} : " in inspect.getdoc(deployer.create)


def test_an_option_under_the_name_that_it_had_before_counts(created: list[Any]) -> None:
    for deployer in (AirflowDeployer, ArgoDeployer):
        deployer.__new__(deployer).create(emit_events=False)
    assert [given for _, given in created] == [{"auto_emit_events": False}, {"auto_emit_argo_events": False}]


def test_the_deployer_knows_the_type_of_each_option_of_each_verb() -> None:
    """It reads the options of all verbs of a group before it calls one, and fails at a type that it does not know."""
    from metaflow.runner.click_api import click_to_python_types

    for _, _, group in DEPLOYERS:
        for name, command in group.commands.items():
            unknown = [one.name for one in command.params if type(one.type) not in click_to_python_types]
            assert unknown == [], (group.name, name)


def test_a_dag_file_can_be_given_by_position(created: list[Any]) -> None:
    AirflowDeployer.__new__(AirflowDeployer).create("dags/x.py")
    assert created == [(AirflowDeployedFlow, {"file": "dags/x.py"})]


@pytest.mark.parametrize(("own", "stock"), [(argo, argo_workflows), (sfn, step_functions)])
def test_every_option_of_metaflows_own_create_is_one_of_ours_under_the_same_name(own: Any, stock: Any) -> None:
    names = [{one.name for one in group.commands["create"].params} for group in (own, stock)]
    assert names[1] <= names[0]


@pytest.mark.parametrize(
    ("own", "stock"),
    [
        (argo_deployer_objects.ArgoDeployedFlow, argo_workflows_deployer_objects.ArgoWorkflowsDeployedFlow),
        (argo_deployer_objects.ArgoTriggeredRun, argo_workflows_deployer_objects.ArgoWorkflowsTriggeredRun),
        (sfn_deployer_objects.SfnDeployedFlow, step_functions_deployer_objects.StepFunctionsDeployedFlow),
        (sfn_deployer_objects.SfnTriggeredRun, step_functions_deployer_objects.StepFunctionsTriggeredRun),
        # Airflow, as Metaflow's nearest counterpart.
        (airflow_deployer_objects.AirflowDeployedFlow, step_functions_deployer_objects.StepFunctionsDeployedFlow),
        (AirflowTriggeredRun, argo_workflows_deployer_objects.ArgoWorkflowsTriggeredRun),
    ],
)
def test_methods_take_the_positional_arguments_of_metaflows_own(own: Any, stock: Any) -> None:
    for name, method in inspect.getmembers(stock, inspect.isroutine):
        if not name.startswith("_"):
            wanted = _positional(method)
            assert _positional(getattr(own, name))[: len(wanted)] == wanted, name


def _positional(method: Any) -> list[str]:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return [name for name, one in inspect.signature(method).parameters.items() if one.kind is kind]


@pytest.mark.parametrize(
    ("flow", "run"),
    [
        (AirflowDeployedFlow, AirflowTriggeredRun),
        (ArgoDeployedFlow, ArgoTriggeredRun),
        (SfnDeployedFlow, SfnTriggeredRun),
    ],
)
def test_deployed_flows_and_runs_show_what_they_are(flow: Any, run: Any) -> None:
    deployer: Any = SimpleNamespace(name="d.one", flow_name="F", metadata="local@/x")
    assert repr(flow(deployer)) == f"{flow.__name__}('d.one', flow='F')"
    content = json.dumps({"pathspec": "F/1", "metadata": "local@/x", "name": "d.one"})
    assert repr(run(deployer, content)) == f"{run.__name__}('F/1')"


@pytest.mark.subprocess
def test_stubs_of_metaflow_name_the_options_and_types_of_our_deployers(tmp_path: Path) -> None:
    """`metaflow develop stubs install` made `airflow(self, **deployer_kwargs)`, which completes nothing."""
    script = (
        "from metaflow.cmd.develop.stub_generator import StubGenerator\n"
        f"StubGenerator({str(tmp_path / 'stubs')!r}, include_generated_for=True).write_out()\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True)
    methods = _functions(tmp_path / "stubs/runner/deployer.pyi")
    for deployer, flow, _ in DEPLOYERS:
        method = methods[deployer.TYPE]
        assert [one.arg for one in method.args.kwonlyargs] == ["name"]
        module = ast.literal_eval(method.returns)
        assert module.endswith(f".{deployer.__name__}")
        parts = module.split(".")[1:-1]
        create = _functions(tmp_path.joinpath("stubs", *parts).with_suffix(".pyi"))["create"]
        shown = [one for one in [*create.args.args, *create.args.kwonlyargs] if one.arg != "self"]
        assert [one.arg for one in shown] == list(inspect.signature(deployer.create).parameters)[1:]
        assert all(one.annotation is not None for one in shown)
        assert ast.literal_eval(create.returns).endswith(f".{flow.__name__}")
        found = methods[f"from_{deployer.TYPE}"]
        assert ast.literal_eval(found.returns) == ast.literal_eval(create.returns)


def _functions(file: Path) -> dict[str, Any]:
    return {one.name: one for one in ast.walk(ast.parse(file.read_text())) if isinstance(one, ast.FunctionDef)}
