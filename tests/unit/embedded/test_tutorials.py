"""Tutorials 00 to 03 of Metaflow, from the installed package: compiled for all targets, and run as `airflow test` does.

The third reads the results of the second, by the namespace of the user.
"""

from __future__ import annotations

from collections.abc import Callable
from graphlib import TopologicalSorter
from pathlib import Path

import metaflow
import pytest
from tests.support.command_line import CommandLine
from tests.support.recorded import on_s3
from tests.support.task_runs import FlowRun
from tests.unit.adapters.step_functions.conftest import SETTINGS

from airflow_provider_metaflow import MetaflowDag
from metaflow_adapters import argo, step_functions
from metaflow_orchestration.documents.manifest import Manifest, encode_manifest

TUTORIALS = Path(metaflow.__file__).parent / "tutorials"
FILES = {
    "00-helloworld/helloworld.py": ["start", "hello", "end"],
    "01-playlist/playlist.py": ["start", "bonus_movie", "genre_movies", "join", "end"],
    "02-statistics/stats.py": ["start", "compute_statistics", "join", "end"],
    "03-playlist-redux/playlist.py": ["start", "bonus_movie", "genre_movies", "join", "end"],
}


@pytest.fixture
def compiled_for_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Manifest]:
    """Compiles a tutorial as `airflow test` does, without running it."""
    from airflow_provider_metaflow.embedded import trial

    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(tmp_path))
    terminal = CommandLine(tmp_path, monkeypatch)
    found: list[Manifest] = []
    monkeypatch.setattr(trial, "run_once", lambda compiled, *_: found.append(compiled) or True)

    def compile_tutorial(file: str) -> Manifest:
        done = terminal.run(TUTORIALS / file, "airflow", "test")
        assert done.code == 0, done.output
        return found.pop()

    return compile_tutorial


@pytest.mark.parametrize(("file", "steps"), FILES.items())
def test_a_tutorial_compiles_for_all_targets(
    file: str, steps: list[str], compiled_for_test: Callable[[str], Manifest], tmp_path: Path
) -> None:
    manifest = compiled_for_test(file)
    path = tmp_path / "tutorial.metaflow.json"
    path.write_bytes(encode_manifest(manifest))
    dag = MetaflowDag(path)
    assert set(steps) <= {task.rpartition(".")[2] for task in dag.task_ids}
    remote = on_s3(manifest, file)
    templates = argo.compile_flow(remote, namespace="flows").to_yaml()
    machine = step_functions.compile_flow(remote, settings=SETTINGS).to_json()
    for step in steps:
        assert step.replace("_", "-") in templates
        assert f'"{step}' in machine


@pytest.mark.extended
@pytest.mark.subprocess
def test_a_tutorial_sees_what_the_one_before_it_has_stored_under_airflow_test(
    compiled_for_test: Callable[[str], Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was in the namespace of a token, and failed with "Object not in namespace 'production:…'"."""
    monkeypatch.setenv("AIRFLOW__METAFLOW__CACHE_FOLDER", str(tmp_path / "cache"))
    for file in ("02-statistics/stats.py", "03-playlist-redux/playlist.py"):
        path = tmp_path / f"{Path(file).parent.name}.metaflow.json"
        path.write_bytes(encode_manifest(compiled_for_test(file)))
        dag = MetaflowDag(path)
        run = FlowRun(dag, dag_run_id="test__1", conf={})
        order = TopologicalSorter({name: one.upstream_task_ids for name, one in dag.task_dict.items()})
        run.run_all(*order.static_order())
