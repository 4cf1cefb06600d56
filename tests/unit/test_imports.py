"""What importing our packages costs and pulls in, each looked at in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.subprocess

OURS = ("airflow_provider_metaflow", "metaflow_orchestration", "metaflow_adapters")


def modules_after(statement: str, *blocked: str) -> set[str]:
    script = (
        "import sys, json\n"
        f"for name in {blocked!r}: sys.modules[name] = None\n"
        f"{statement}\n"
        "print(json.dumps([name for name, module in sys.modules.items() if module is not None]))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return set(json.loads(result.stdout.splitlines()[-1]))


def test_having_the_package_installed_costs_an_airflow_process_nothing() -> None:
    loaded = modules_after("import airflow_provider_metaflow.get_provider_info as p; p.get_provider_info()")
    ours = {name for name in loaded if name.startswith("airflow_provider_metaflow")}
    assert ours == {"airflow_provider_metaflow", "airflow_provider_metaflow.get_provider_info"}
    assert not {"airflow", "metaflow", "msgspec"} & loaded


@pytest.mark.parametrize(
    "module",
    [
        "metaflow_orchestration.graph.model",
        "metaflow_orchestration.documents.manifest",
        "metaflow_orchestration.compile.compiler",
        "metaflow_orchestration.compile.deployment.manifest",
        "airflow_provider_metaflow.plan.dag",
        "metaflow_adapters",
    ],
)
def test_the_graph_model_the_compiler_and_the_adapters_need_no_airflow(module: str) -> None:
    assert module in modules_after(f"import {module}", "airflow")


@pytest.mark.parametrize("lazily", ["True", "False"])
def test_what_airflow_forks_to_parse_a_dag_file_imports_no_module_of_ours(
    lazily: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "nothing.py").touch()
    monkeypatch.setenv("AIRFLOW__CORE__LAZY_LOAD_PLUGINS", lazily)
    monkeypatch.setenv("AIRFLOW__METAFLOW__CACHE_FOLDER", str(tmp_path / "cache"))
    # As each of Airflow's components does when it starts.
    start = "from airflow.listeners.listener import get_listener_manager; get_listener_manager()"
    parse = f"""{start}
from airflow_provider_metaflow import MetaflowDag, MetaflowTaskGroup, load_flow_dags
load_flow_dags({{}}, {str(tmp_path)!r})"""
    found = {name for name in modules_after(parse) - modules_after(start) if name.split(".")[0] in OURS}
    assert not found


def test_a_dag_file_imports_no_metaflow() -> None:
    loaded = modules_after("from airflow_provider_metaflow import MetaflowDag, MetaflowTaskGroup, load_flows")
    assert not {name for name in loaded if name.split(".")[0] in ("metaflow", "metaflow_extensions")}


def test_the_extension_loads_nothing_but_its_step_decorator() -> None:
    loaded = modules_after("import metaflow")
    # An editable install has a finder beside them.
    ours = {name for name in loaded if "airflow_provider_metaflow" in name and not name.startswith("__editable__")}
    extension = "metaflow_extensions.airflow_provider_metaflow"
    assert all(name.startswith(extension) for name in ours)
    assert f"{extension}.plugins.orchestrator.task.step_decorator" in ours
    assert f"{extension}.plugins.orchestrator.cli.airflow.group" not in ours
    assert "airflow" not in loaded
