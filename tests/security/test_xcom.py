"""Promise: whoever edits an XCom, or the configuration of a run, chooses no code and no data of another run or flow."""

from __future__ import annotations

import copy
import gzip
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.support.task_runs import FlowRun, MemoryMetaflow

from airflow_provider_metaflow.compute.local.processes import LocalCompute
from airflow_provider_metaflow.execution.started_code import started_code
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task import placed_origin, task_place
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import EditedXComError, ParameterValueError, UnsupportedFeatureError
from metaflow_orchestration.run.contexts import MAX_SPLITS, check_contexts, context_items, split_contexts
from metaflow_orchestration.run.origin import Origin
from metaflow_orchestration.run.outcome import XCOM_KEY, InstanceOutcome, TaskOutcome

Start = Callable[..., FlowRun]
LOCATIONS = ("url", "flow_file", "flow_dir", "datastore", "metadata", "/", "://")
SHA = "0d" * 20


def edited(run: FlowRun, task: str, change: Callable[[Any], Any], key: str = XCOM_KEY, index: int = -1) -> None:
    """Replace an XCom, as PATCH of Airflow's API does."""
    before = copy.deepcopy(run.xcoms[task, index, key])
    run.xcoms[task, index, key] = change(before)


def test_an_xcom_holds_hashes_counts_and_names_only(start: Start, metaflow: MemoryMetaflow) -> None:
    run = start("nested_foreach")
    run.run_all("start", "prepare", "fan", "fan-splits", "work")
    texts = [json.dumps(value) for (_, _, key), value in run.xcoms.items() if key in (XCOM_KEY, "return_value")]
    assert len(texts) > 6
    for text in texts:
        assert not [word for word in LOCATIONS if word in text], text


HOSTILE_CODE = [
    {
        "url": "/tmp/evil.tgz",
        "sha": SHA,
        "metadata": "{}",
        "datastore": "local",
        "flow_file": "x.py",
        "flow_dir": "/tmp",
    },
    "/tmp/evil.tgz",
    "s3://evil/package",
    "../" * 8 + "tmp/evil",
    SHA[:-1],
    SHA + "\n",
    SHA.upper(),
    SHA[:-2] + "/x",
    "",
    None,
    7,
]


@pytest.mark.parametrize("code", HOSTILE_CODE, ids=repr)
def test_an_edited_xcom_that_names_a_package_by_anything_but_a_hash_ends_the_task(
    start: Start, metaflow: MemoryMetaflow, code: Any
) -> None:
    run = start("linear")
    run.run_all("start")
    edited(run, "start", lambda xcom: {**xcom, "code": code})
    ended = run.run("middle")
    assert ended == "failed"
    assert "XCom 'metaflow'" in str(ended.error)
    assert metaflow.ran("middle") == []


def test_a_hash_leads_into_the_flow_s_own_datastore_and_to_nothing_else_of_the_manifest(
    compiled: Callable[..., Manifest],
) -> None:
    manifest = compiled("linear")
    found = started_code(manifest, SHA)
    root = manifest.command.datastore_root
    assert found == replace(manifest.code, sha=SHA, url=f"{root}/LinearFlow/data/0d/{SHA}")
    # As Metaflow itself has named the package of today.
    another = replace(manifest, code=replace(manifest.code, sha=SHA))
    assert started_code(another, manifest.code.sha).url == manifest.code.url
    for code in ("x", "../../x", SHA + "/"):
        with pytest.raises(EditedXComError, match="flow LinearFlow: the code package"):
            started_code(manifest, code)


def test_a_package_with_another_content_than_its_hash_says_is_not_run(
    compiled: Callable[..., Manifest], tmp_path: Path
) -> None:
    from airflow_provider_metaflow.compute.local.code import unpacked
    from metaflow_orchestration.exceptions import StepNotRunnableError

    manifest = compiled("linear")
    package = started_code(manifest, "ab" * 20)
    Path(package.url).parent.mkdir(parents=True, exist_ok=True)
    Path(package.url).write_bytes(Path(manifest.code.url).read_bytes())
    with pytest.raises(StepNotRunnableError, match="not the one that was deployed"):
        with unpacked(package, tmp_path / "cache", manifest.command.datastore_root):
            pass


def test_content_that_a_run_was_given_is_no_code_package_of_the_flow(
    compiled: Callable[..., Manifest], tmp_path: Path
) -> None:
    from metaflow.plugins.datastores.local_storage import LocalStorage

    from airflow_provider_metaflow.compute.local.code import unpacked
    from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task.file_parameters import upload
    from metaflow_orchestration.exceptions import StepNotRunnableError

    manifest = compiled("linear")
    root = manifest.command.datastore_root
    # A package that could be run, as the value of a file parameter.
    content = gzip.compress(gzip.decompress(Path(manifest.code.url).read_bytes()), mtime=1)
    url = upload(content, manifest.graph.name, LocalStorage(root), is_text=False, encoding=None)["url"]
    given = Path(url.partition("://")[2])
    for named in (content, given.read_bytes()):
        package = started_code(manifest, hashlib.sha1(named, usedforsecurity=False).hexdigest())
        assert Path(package.url) != given
        with pytest.raises(StepNotRunnableError), unpacked(package, tmp_path / "cache", root):
            pass
    package = started_code(manifest, hashlib.sha1(content, usedforsecurity=False).hexdigest())
    deployed = tmp_path / "deployed"
    deployed.write_bytes(content)
    with unpacked(replace(package, url=str(deployed)), tmp_path / "cache", root) as folder:
        assert list(folder.iterdir())


def hook_runs(run: FlowRun, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    ran: list[Any] = []
    monkeypatch.setattr(LocalCompute, "run_module", lambda compute, *words: ran.append((compute.code, words)))
    hook = next(
        name
        for name, task in run.dag.task_dict.items()
        if getattr(task, "on_success", False) and hasattr(task, "function")
    )
    for name in run.dag.task_dict:
        run.states.setdefault((name, -1), "success")
    run.run(hook)
    return ran


def test_an_edited_xcom_does_not_choose_the_code_of_an_exit_hook(
    start: Start, metaflow: MemoryMetaflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start("events/hooked")
    run.run_all("start")
    edited(run, "start", lambda xcom: {**xcom, "code": HOSTILE_CODE[0]})
    assert hook_runs(run, monkeypatch) == []
    edited(run, "start", lambda xcom: {**xcom, "code": SHA})
    ((code, words),) = hook_runs(run, monkeypatch)
    manifest = run.dag.task_dict["start"].manifest  # type: ignore[union-attr]
    assert code == started_code(manifest, SHA)
    assert manifest.code.flow_file in words


def one_task(**changed: Any) -> Callable[[Any], Any]:
    def change(xcom: Any) -> Any:
        (task,) = xcom["tasks"]
        return {**xcom, "tasks": [{**task, **changed}]}

    return change


@pytest.mark.parametrize(
    "changed",
    [
        {"task": "../../OtherFlow/run/start/t"},
        {"task": "t,airflow-other/start/t"},
        {"task": "t-1"},
        {"task": "t/../x"},
        {"task": "t\n"},
        {"task": None},
        {"next": ["middle", "end"]},
        {"next": ["../x"]},
        {"next": "middle"},
        {"gang": ["t", "other/start/t"]},
        {"gang": ["t-1"]},
        {"path": [0]},
        {"path": "x"},
        {"path": [-1]},
        {"path": [True]},
        {"splits": -1},
        {"splits": 10**12},
        {"splits": "3"},
        {"parallel": 10**12},
        {"values": [1]},
        {"cloned": "yes"},
        {"url": "s3://evil"},
    ],
    ids=repr,
)
def test_an_edited_outcome_leads_to_no_task_of_another_run_flow_or_step(
    start: Start, metaflow: MemoryMetaflow, changed: dict[str, Any]
) -> None:
    run = start("linear")
    run.run_all("start")
    edited(run, "start", one_task(**changed))
    ended = run.run("middle")
    assert ended == "failed"
    assert "was edited" in str(ended.error)
    assert metaflow.ran("middle") == []


CONTEXT = {"items": [[0]], "parents": [-1], "label": "0"}


@pytest.mark.parametrize(
    "contexts",
    [
        None,
        "x",
        {},
        [],
        [None],
        [{**CONTEXT, "items": [["../x"]]}],
        [{**CONTEXT, "items": [[0, 0]]}],
        [{**CONTEXT, "items": [[]]}],
        [{**CONTEXT, "items": [[-1]]}],
        [{**CONTEXT, "items": [[[0, 10**9]]]}],
        [{**CONTEXT, "items": [[[3, 1]]]}],
        [{**CONTEXT, "items": [[[0, 1, 2]]]}],
        [{**CONTEXT, "items": [[True]]}],
        [{**CONTEXT, "parents": ["x"]}],
        [{**CONTEXT, "label": {}}],
        [{**CONTEXT, "url": "s3://evil"}],
        [{**CONTEXT, "items": [[[0, 500_000]], [[0, 500_001]]]}],
    ],
    ids=lambda one: repr(one)[:60],
)
def test_an_edited_list_of_splits_is_refused(contexts: Any) -> None:
    with pytest.raises(EditedXComError, match="clear the foreach step"):
        check_contexts(contexts, 1, 0)


def test_an_edited_list_of_splits_ends_the_task(start: Start, metaflow: MemoryMetaflow) -> None:
    run = start("grouped")
    run.run_all("start")
    edited(run, "start", lambda found: [{**one, "items": [["../../x"]]} for one in found], key="return_value")
    ended = run.run("body", 0)
    assert (ended.state, metaflow.ran("body")) == ("failed", [])
    assert "flow GroupedFlow step body" in str(ended.error)
    assert "no index path" in str(ended.error)


def test_whatever_splits_there_are_an_outcome_survives_its_xcom(start: Start, metaflow: MemoryMetaflow) -> None:
    made = TaskOutcome(
        path=(1, 2),
        task_id="t-1-2-r3-g1",
        next_steps=("a", "b"),
        num_splits=3,
        values=("x",),
        gang=("t_node_1",),
        cloned=True,
        num_parallel=2,
    )
    instance = InstanceOutcome(run_id="airflow-1", code=SHA, tasks=(made,), map_index=4)
    assert InstanceOutcome.from_json(json.loads(json.dumps(instance.to_json()))) == instance


def test_a_million_splits_are_a_short_list_and_more_are_refused() -> None:
    contexts = split_contexts([((), 1_000_000, None, -1)], 1024)
    size = len(json.dumps(contexts))
    # It was 10 MB, read by each of 1,024 task instances.
    assert (len(contexts), size < 100_000) == (1024, True)
    assert sum(len(context_items(one)) for one in check_contexts(contexts, 1)) == 1_000_000
    nested = split_contexts([((outer,), 1_000, None, outer) for outer in range(1_000)], 1024)
    assert len(json.dumps(nested)) < 200_000
    assert [item for one in nested for item in context_items(one)][999:1001] == [(0, 999), (1, 0)]
    with pytest.raises(UnsupportedFeatureError, match="1,000,001 splits"):
        split_contexts([((), MAX_SPLITS + 1, None, -1)], 1024)
    with pytest.raises(UnsupportedFeatureError, match="Loop over chunks"):
        split_contexts([((outer,), 1, None, outer) for outer in range(60_000)], 1024)


def test_after_a_deferral_the_run_that_is_judged_is_not_that_of_an_xcom(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.exceptions import TaskDeferred

    from airflow_provider_metaflow import MetaflowRunOperator
    from airflow_provider_metaflow.hooks.metaflow import MetaflowHook

    class Ti:
        task_id, map_index = "run", -1

        def xcom_push(self, **_: Any) -> None:
            pass

        def xcom_pull(self, **_: Any) -> str:
            return "Other/argo-evil"

    monkeypatch.setattr(MetaflowHook, "ask", lambda *_, **__: {"pathspec": "Flow/argo-own"})
    operator = MetaflowRunOperator(task_id="run", deployment="flow", impl="argo-workflows", deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute({"ti": Ti()})  # type: ignore[typeddict-item]
    event = {"finished": True, "successful": True}
    again = MetaflowRunOperator(task_id="run", deployment="flow", impl="argo-workflows", deferrable=True)
    assert again.execute_complete({"ti": Ti()}, event, **deferred.value.kwargs) == "Flow/argo-own"  # type: ignore[typeddict-item,arg-type]


@pytest.mark.parametrize(
    "origin",
    [
        "../Other/airflow-1",
        "..",
        ".",
        "",
        "a/b",
        "/etc",
        "airflow-1,airflow-2",
        "a:b",
        "a b",
        "a\n",
        "a\0",
        "ü",
        "-x",
        "x" * 256,
    ],
)
def test_a_run_to_resume_that_is_no_run_id_is_refused(compiled: Callable[..., Manifest], origin: str) -> None:
    graph = compiled("linear").graph
    with pytest.raises(ParameterValueError, match="flow LinearFlow: the origin of metaflow_resume"):
        Origin.of(graph, {"metaflow_resume": {"origin": origin}})


@pytest.mark.parametrize(
    "asked",
    ["x", {"origin": 7}, {}, {"origin": "airflow-1", "step": "nowhere"}, {"origin": "airflow-1", "step": ["start"]}],
)
def test_a_wrong_request_to_resume_ends_the_task_with_one_error(
    start: Start, metaflow: MemoryMetaflow, asked: Any
) -> None:
    ended = start("linear", conf={"metaflow_resume": asked}).run("start")
    assert (ended.state, metaflow.calls) == ("failed", [])
    assert "flow LinearFlow" in str(ended.error)


@pytest.mark.parametrize("name", ["../Other/argo-1", "argo/1", "argo,1", "a b", "argo-1\n", "$(id)", "{{workflow}}"])
def test_a_container_takes_no_name_of_a_run_that_leads_elsewhere(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAFLOW_ORCHESTRATOR_ORIGIN", f"{name}:step")
    with pytest.raises(SystemExit, match="the run to resume is"):
        placed_origin.Origin.read(os.environ)
    for variables in ({"RUN": name}, {"RUN": "argo-x", "PLACE": f"{name}@0"}):
        environment = {f"METAFLOW_ORCHESTRATOR_{key}": value for key, value in variables.items()}
        with pytest.raises(SystemExit, match="the run is"):
            task_place.Place.read(environment)


def test_a_container_takes_the_names_that_orchestrators_give(monkeypatch: pytest.MonkeyPatch) -> None:
    found = task_place.Place.read(
        {"METAFLOW_ORCHESTRATOR_RUN": "argo-x-1", "METAFLOW_ORCHESTRATOR_PLACE": "one.2@3-0"}
    )
    assert (found.run_id, found.path) == ("argo-x-1-one.2", (3, 0))
    monkeypatch.setenv("METAFLOW_ORCHESTRATOR_ORIGIN", "sfn-1f2e:end")
    origin = placed_origin.Origin.read(os.environ)
    assert origin is not None
    assert (origin.run_id, origin.rerun) == ("sfn-1f2e", ("end",))


def test_a_foreach_with_too_many_splits_ends_once_with_an_error_that_names_it(
    start: Start, metaflow: MemoryMetaflow
) -> None:
    metaflow.splits = MAX_SPLITS + 1
    ended = start("grouped").run("start")
    assert ended == "failed"
    assert "flow GroupedFlow step start: its foreach has 1,000,001 splits" in str(ended.error)
