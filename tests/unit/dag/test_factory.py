"""MetaflowDag, MetaflowTaskGroup and load_flows, parsed but not run."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization
from msgspec.structs import replace

from airflow_provider_metaflow import (
    FlowTranslator,
    MetaflowDag,
    MetaflowTaskGroup,
    StepContext,
    load_flow_dags,
    load_flows,
)
from metaflow_orchestration.documents.manifest import Manifest, encode_manifest, read_manifest
from metaflow_orchestration.exceptions import InvalidOptionError, ManifestError, MetaflowProviderError
from metaflow_orchestration.graph.model import Decorator


@pytest.fixture
def manifest_file(compiled: Callable[..., Manifest], tmp_path: Path) -> Callable[..., Path]:
    """Writes the manifest of a shape beside a DAG file."""

    def write(shape: str, *create: str) -> Path:
        path = tmp_path / f"{Path(shape).name}.metaflow.json"
        path.write_bytes(encode_manifest(compiled(shape, *create)))
        return path

    return write


def test_every_argument_of_a_dag_is_passed_through(manifest_file: Callable[..., Path]) -> None:
    def callback(context: object) -> None: ...

    dag = MetaflowDag(
        manifest_file("linear"),
        "my_dag",
        tags=["a"],
        default_args={"owner": "me", "retries": 4},
        is_paused_upon_creation=True,
        max_active_runs=3,
        dagrun_timeout=timedelta(hours=1),
        on_failure_callback=callback,
        schedule="@daily",
    )
    assert (dag.dag_id, dag.tags, dag.max_active_runs) == ("my_dag", {"a", "metaflow"}, 3)
    assert dag.dagrun_timeout == timedelta(hours=1)
    assert dag.is_paused_upon_creation is True
    assert dag.on_failure_callback == callback
    assert dag.get_task("middle").owner == "me"
    # A step without @retry takes the DAG's default.
    assert dag.get_task("middle").retries == 4


def test_arguments_of_a_dag_do_not_take_away_the_tag_and_owner_of_the_flow(manifest_file: Callable[..., Path]) -> None:
    dag = MetaflowDag(manifest_file("linear", "--tag", "x"), tags=("mine",), default_args={"retries": 1})
    assert dag.tags == {"metaflow", "x", "mine"}
    assert dag.get_task("middle").owner == MetaflowDag(manifest_file("linear"), "other").get_task("middle").owner
    assert dag.get_task("middle").owner != "airflow"


def test_the_documentation_of_a_dag_may_be_a_file_beside_it(manifest_file: Callable[..., Path], tmp_path: Path) -> None:
    here = Path(__file__).parent
    dag = MetaflowDag(manifest_file("linear"), doc_md=str(here.parents[2] / "README.md"))
    assert (here.parents[2] / "README.md").read_text().strip() in (dag.doc_md or "")
    absent = MetaflowDag(manifest_file("linear"), "other", doc_md="absent.md")
    assert (absent.doc_md or "").startswith("absent.md")


def test_a_helper_module_of_a_dag_file_resolves_paths_from_the_dag_file(
    manifest_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dags/flows").mkdir(parents=True)
    (tmp_path / "helpers").mkdir()
    shutil.copy(manifest_file("linear"), tmp_path / "dags/flows/linear.metaflow.json")
    (tmp_path / "dags/flows/about.md").write_text("What it is for.")
    (tmp_path / "helpers/our_dags.py").write_text(
        "from airflow_provider_metaflow import MetaflowDag, load_flows\n"
        "def one(flow): return MetaflowDag(flow, doc_md='flows/about.md')\n"
        "def folder(namespace): return load_flows(namespace, 'flows')\n"
    )
    (tmp_path / "dags/dag.py").write_text(
        "import our_dags\none = our_dags.one('flows/linear.metaflow.json')\nall = our_dags.folder(globals())\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "helpers"))
    from airflow.sdk.definitions._internal.contextmanager import DagContext

    # As Airflow's DAG importer does.
    spec = importlib.util.spec_from_file_location("unusual_prefix_dag", tmp_path / "dags/dag.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    monkeypatch.setattr(DagContext, "current_autoregister_module_name", spec.name)
    spec.loader.exec_module(module)
    assert (module.one.doc_md or "").startswith("What it is for.")
    assert [dag.dag_id for dag in module.all] == ["LinearFlow"]


def test_a_step_that_must_not_be_retried_is_not_under_default_args(
    manifest_file: Callable[..., Path], tmp_path: Path
) -> None:
    """`@retry(times=0)`: the number of the flow wins over the DAG's, 0 as any other."""
    path = manifest_file("linear")
    manifest = read_manifest(path)
    retry = Decorator(name="retry", attributes={"times": 0, "minutes_between_retries": 2})
    steps = tuple(
        replace(step, decorators=(retry,)) if step.name == "middle" else step for step in manifest.graph.steps
    )
    path.write_bytes(encode_manifest(replace(manifest, graph=replace(manifest.graph, steps=steps))))
    dag = MetaflowDag(path, default_args={"retries": 2})
    assert [dag.get_task(step).retries for step in ("start", "middle", "end")] == [2, 0, 2]


def test_steps_take_every_argument_of_an_operator_that_does_not_contradict_the_flow(
    manifest_file: Callable[..., Path],
) -> None:
    from airflow.sdk import Asset

    def callback(context: object) -> None: ...

    class Translator(FlowTranslator):
        def operator_arguments(self, context: StepContext) -> dict[str, Any]:
            return {"inlets": [Asset("raw")]} if context.step.name == "end" else {}

    given = {
        "outlets": [Asset("report")],
        "inlets": [Asset("raw")],
        "on_success_callback": callback,
        "do_xcom_push": False,
        "execution_timeout": timedelta(minutes=5),
        "wait_for_past_depends_before_skipping": True,
    }
    dag = MetaflowDag(
        manifest_file("linear", "--emit-step-events"), translator=Translator(), step_overrides={"middle": given}
    )
    middle = dag.get_task("middle")
    # The asset stands beside the event of the step, which other flows may wait for.
    assert [asset.name for asset in middle.outlets][-1] == "report"
    assert len(middle.outlets) == len(dag.get_task("end").outlets) + 1 > 1
    assert [asset.name for asset in middle.inlets] == ["raw"]
    assert middle.execution_timeout == timedelta(minutes=5)
    assert [asset.name for asset in dag.get_task("end").inlets] == ["raw"]


def test_a_translator_may_return_no_argument_that_contradicts_the_flow(manifest_file: Callable[..., Path]) -> None:
    class Translator(FlowTranslator):
        def operator_arguments(self, context: StepContext) -> dict[str, Any]:
            return {"trigger_rule": "all_done"}

    with pytest.raises(InvalidOptionError, match=r"Translator.operator_arguments has the key 'trigger_rule'"):
        MetaflowDag(manifest_file("linear"), translator=Translator())


def test_values_for_parameters_are_defaults_of_the_run_and_templates_wait_for_it(
    manifest_file: Callable[..., Path],
) -> None:
    given = {"number": 8, "text": "on {{ ds }}", "required": "{{ run_id }}"}
    dag = MetaflowDag(manifest_file("files/parameters"), parameters=given)
    params = {name: dag.params.get_param(name) for name in dag.params}
    assert params["number"].value == 8
    # Null stands for the template; so a required parameter asks for nothing.
    assert (params["text"].value, params["required"].value) == (None, None)
    assert "on {{ ds }}" in params["text"].description
    start = dag.get_task("start")
    assert start.parameters == {"text": "on {{ ds }}", "required": "{{ run_id }}"}


def test_a_dag_takes_from_its_flow_what_nobody_says_otherwise(manifest_file: Callable[..., Path]) -> None:
    dag = MetaflowDag(manifest_file("linear", "--tag", "x", "--max-workers", "5", "--workflow-timeout", "60"))
    assert dag.dag_id == "LinearFlow"
    assert dag.description == "Three steps in a row."
    assert dag.tags == {"metaflow", "x"}
    assert dag.max_active_tasks == 5
    assert dag.dagrun_timeout == timedelta(seconds=60)
    assert not dag.catchup
    assert "Three steps in a row." in (dag.doc_md or "")


def test_overrides_and_a_translator_reach_the_steps_and_overrides_win(manifest_file: Callable[..., Path]) -> None:
    class Translator(FlowTranslator):
        def queue(self, context: StepContext) -> str | None:
            return f"queue-{context.step.name}"

        def executor_config(self, context: StepContext) -> dict[str, Any] | None:
            return {"mapped": context.mapped}

        def operator_arguments(self, context: StepContext) -> Mapping[str, Any]:
            return {"priority_weight": 7}

    dag = MetaflowDag(
        manifest_file("foreach"),
        pool="ml",
        translator=Translator(),
        step_overrides={"upper": {"pool": "gpu", "pool_slots": 2, "queue": "own", "priority_weight": 9}},
    )
    upper, start = dag.get_task("upper"), dag.get_task("start")
    assert (upper.pool, upper.pool_slots, upper.queue, upper.priority_weight) == ("gpu", 2, "own", 9)
    assert upper.executor_config == {"mapped": True}
    assert (start.pool, start.queue, start.priority_weight) == ("ml", "queue-start", 7)
    assert start.executor_config == {"mapped": False}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"step_overrides": {"midle": {}}}, "unknown step 'midle'. Did you mean 'middle'"),
        ({"step_overrides": {"middle": {"trigger_rule": "all_done"}}}, "'trigger_rule', which contradicts the flow"),
        ({"step_overrides": {"middle": {"task_id": "x"}}}, "the task of a step is named after it"),
        ({"parameters": {"alhpa": 1}}, "has no parameter 'alhpa'"),
        ({"step_overrides": {"middle": {"pol": "x"}}}, "step middle: step_overrides has the unknown key 'pol'"),
        ({"dag_id": "a b"}, "'a b' cannot be a DAG id"),
        ({"dag_id": "x" * 251}, "has 251 characters"),
    ],
)
def test_bad_arguments_are_refused_with_flow_and_mend(
    manifest_file: Callable[..., Path], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidOptionError, match="flow LinearFlow") as caught:
        MetaflowDag(manifest_file("linear"), **arguments)
    assert message in str(caught.value)


def test_a_missing_flow_or_manifest_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(MetaflowProviderError, match=r"gone\.py does not exist"):
        MetaflowDag(tmp_path / "gone.py")
    with pytest.raises(ManifestError, match=r"gone\.metaflow\.json cannot be read"):
        MetaflowDag(tmp_path / "gone.metaflow.json")


def test_parameters_become_typed_params_of_the_dag(manifest_file: Callable[..., Path]) -> None:
    dag = MetaflowDag(manifest_file("files/parameters"))
    params = {name: dag.params.get_param(name) for name in dag.params}
    assert params["number"].schema["type"] == ["integer", "null"]
    assert params["number"].description == "A number."
    assert params["number"].value == 3
    assert params["flag"].value is False
    assert params["config"].value == {"a": [1, 2]}
    assert not params["required"].has_value
    assert params["nothing"].value is None


def test_numbers_that_json_cannot_hold_are_texts_in_the_params_of_a_dag(manifest_file: Callable[..., Path]) -> None:
    dag = MetaflowDag(
        manifest_file("files/parameters"), parameters={"number": 2**53 + 1, "config": {"a": float("inf")}}
    )
    number, config = (dag.params.get_param(name) for name in ("number", "config"))
    assert (number.value, number.schema["type"]) == ("9007199254740993", ["string", "integer", "null"])
    assert json.loads(str(config.value)) == {"a": float("inf")}
    json.dumps(DagSerialization.to_dict(dag), allow_nan=False)
    number.resolve()
    config.resolve()


def test_a_group_checks_its_parameters_when_it_is_parsed(manifest_file: Callable[..., Path]) -> None:
    with DAG("outer", schedule=None):
        with pytest.raises(InvalidOptionError, match="has no parameter 'beta'"):
            MetaflowTaskGroup(manifest_file("grouped"), group_id="a", parameters={"beta": 1})
        with pytest.raises(InvalidOptionError, match="'required' is required but not given"):
            MetaflowTaskGroup(manifest_file("files/parameters"), group_id="b")


def test_a_group_with_a_foreach_is_refused_in_a_mapped_group(manifest_file: Callable[..., Path]) -> None:
    from airflow.sdk import task_group

    path = manifest_file("grouped")
    with DAG("outer", schedule=None):

        @task_group
        def body(item: int) -> None:
            MetaflowTaskGroup(path, group_id="flow")

        with pytest.raises(InvalidOptionError, match="stands in a mapped task group"):
            body.expand(item=[1, 2])


def test_one_flow_is_two_groups_of_one_dag(manifest_file: Callable[..., Path]) -> None:
    path = manifest_file("grouped")
    with DAG("outer", schedule=None) as dag:
        one = MetaflowTaskGroup(path, group_id="one")
        two = MetaflowTaskGroup(path, group_id="two", max_workers=3)
        one >> two
    assert sorted(dag.task_ids) == sorted(
        f"{group}.{step}" for group in ("one", "two") for step in ("start", "body", "collect", "end")
    )
    assert dag.get_task("two.start").upstream_task_ids == {"one.end"}
    assert dag.get_task("two.body").max_active_tis_per_dagrun == 3
    assert sorted(DagSerialization.to_dict(dag)["dag"]["task_group"]["children"]) == ["one", "two"]


@pytest.mark.subprocess
@pytest.mark.parametrize(
    "shape",
    [
        pytest.param("nested_foreach", marks=pytest.mark.extended),
        pytest.param("switch_in_foreach", marks=pytest.mark.extended),
        pytest.param("parallel", marks=pytest.mark.extended),
        "files/parameters",
    ],
)
def test_two_processes_serialize_the_same_dag(shape: str, manifest_file: Callable[..., Path]) -> None:
    script = (
        "import sys, json\n"
        "from airflow_provider_metaflow import MetaflowDag\n"
        "from airflow.serialization.serialized_objects import DagSerialization\n"
        "dag = MetaflowDag(sys.argv[1])\n"
        "dag.fileloc = dag.relative_fileloc = 'x.py'\n"
        "print(json.dumps(DagSerialization.to_dict(dag)))\n"
    )
    made = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", script, str(manifest_file(shape))],
                env={**os.environ, "PYTHONHASHSEED": seed},
                capture_output=True,
                text=True,
                check=True,
            ).stdout.splitlines()[-1]
        )
        for seed in ("1", "2")
    ]
    assert made[0] == made[1]
    assert made[0]["dag"]["tasks"]


def test_a_dag_file_of_two_lines_holds_the_words_by_which_airflow_finds_dag_files(tmp_path: Path) -> None:
    """Airflow's safe mode passed over it in silence."""
    from airflow.dag_processing.dagbag import DagBag
    from airflow.utils.file import might_contain_dag

    (tmp_path / "flows").mkdir()
    file = tmp_path / "two.py"
    file.write_text('from airflow_provider_metaflow import load_flow_dags\nload_flow_dags(globals(), "flows/")\n')
    assert might_contain_dag(str(file), safe_mode=True)
    assert load_flow_dags is load_flows
    assert DagBag(str(tmp_path)).import_errors == {}


@pytest.mark.subprocess
def test_load_flows_makes_one_dag_per_flow_and_an_error_of_a_broken_one(tmp_path: Path, flows: Path) -> None:
    folder = tmp_path / "flows"
    folder.mkdir()
    (folder / "linear.py").write_text((flows / "linear.py").read_text())
    (folder / "helper.py").write_text("x = 1\n")
    (folder / "broken.py").write_text((flows / "switch.py").read_text().replace("self.meet)", "self.nowhere)"))
    namespace: dict[str, Any] = {}
    dags = load_flows(namespace, folder, tags=["all"])
    assert set(namespace.values()) == set(dags)
    broken, linear = dags
    assert linear.dag_id == "LinearFlow"
    assert linear.tags == {"all", "metaflow"}
    # What the DAG processor does with each: check, then serialize; the error must come last.
    broken.validate()
    broken.check_cycle()
    broken.relative_fileloc = "dag_file.py"
    with pytest.raises(Exception, match=r"flow broken\.py step case_x"):
        DagSerialization.to_dict(broken)
    assert str(broken.relative_fileloc).endswith("flows/broken.py")


def test_load_flows_without_its_folder_says_so() -> None:
    with pytest.raises(InvalidOptionError, match="finds no folder"):
        load_flows({}, "not-there")


@pytest.mark.subprocess
def test_a_shape_that_airflow_runs_from_3_3_on_is_refused_before(
    tmp_path: Path, flows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_metaflow import _compat
    from metaflow_orchestration.exceptions import UnsupportedFeatureError

    text = (flows / "switch_in_foreach.py").read_text()
    # Both cases meet inside the foreach.
    text = text.replace('self.r = f"even{self.n}"\n        self.next(self.collect)', "self.next(self.odd2)")
    (tmp_path / "meet.py").write_text(text.replace("self.r += ", "self.r = "))
    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(tmp_path))
    assert MetaflowDag(tmp_path / "meet.py").task_ids
    monkeypatch.setattr(_compat, "AIRFLOW_V_3_3_PLUS", False)
    with pytest.raises(UnsupportedFeatureError, match=r"step odd2: joins branches inside a foreach.*Airflow 3\.3"):
        MetaflowDag(tmp_path / "meet.py")


def assets(condition: Any) -> list[Any]:
    parts = getattr(condition, "objects", None)
    return [condition] if parts is None else [one for part in parts for one in assets(part)]


def test_events_schedules_and_watchers_make_the_schedule(manifest_file: Callable[..., Path]) -> None:
    from airflow.providers.standard.triggers.file import FileDeleteTrigger
    from airflow.sdk import AssetOrTimeSchedule, AssetWatcher

    both = MetaflowDag(manifest_file("events/on_both"))
    assert isinstance(both.timetable, AssetOrTimeSchedule)
    names = [asset.name for asset in assets(both.timetable.asset_condition)]
    assert names == ["x-metaflow-event://tests.one", "x-metaflow-event://tests.two"]
    watcher = AssetWatcher("drop", trigger=FileDeleteTrigger(filepath="/tmp/x"))
    watched = MetaflowDag(manifest_file("events/on_event"), event_watchers={"tests.OnEventFlow": [watcher]})
    found = {asset.name: len(asset.watchers) for asset in assets(watched.timetable.asset_condition)}
    assert found == {
        "x-metaflow-event://tests.OnEventFlow": 0,
        "x-metaflow-event://tests.OnEventFlow/watched-by/OnEventFlow": 1,
    }
    # An event brings what a person would have to give.
    assert watched.params["alpha"] is None
    with pytest.raises(InvalidOptionError, match=r"event_watchers names 'tests\.one', which the flow"):
        MetaflowDag(manifest_file("events/on_event"), event_watchers={"tests.one": [watcher]})
    assert MetaflowDag(manifest_file("events/on_both"), schedule=None).timetable.can_be_scheduled is False


def outlets(dag: DAG) -> dict[str, list[str]]:
    """Return the names of the assets of each task that has some."""
    return {task.task_id: [asset.name for asset in task.outlets] for task in dag.tasks if task.outlets}


def test_a_run_emits_one_event_and_each_step_one_if_that_is_wanted(manifest_file: Callable[..., Path]) -> None:
    stem = "x-metaflow-event://metaflow.CustomNamesFlow"
    dag = MetaflowDag(manifest_file("custom_names"))
    end = dag.metaflow_manifest.graph.end
    assert end != "end"
    assert outlets(dag) == {end: [f"{stem}.end"]}
    every = MetaflowDag(manifest_file("custom_names", "--emit-step-events"))
    assert outlets(every) == {
        task.task_id: [f"{stem}.{task.task_id}", *([f"{stem}.end"] if task.task_id == end else [])]
        for task in every.tasks
    }
    assert outlets(MetaflowDag(manifest_file("custom_names", "--no-auto-emit-events"))) == {}


def test_assets_of_events_stand_in_a_group_of_their_own(manifest_file: Callable[..., Path]) -> None:
    from airflow.providers.standard.triggers.file import FileDeleteTrigger
    from airflow.sdk import AssetWatcher

    from airflow_provider_metaflow.events import event_asset

    watcher = AssetWatcher("drop", trigger=FileDeleteTrigger(filepath="/tmp/x"))
    waiting = MetaflowDag(manifest_file("events/on_event"), event_watchers={"tests.OnEventFlow": [watcher]})
    emitting = MetaflowDag(manifest_file("linear"))
    found = [
        *assets(waiting.timetable.asset_condition),
        *emitting.get_task("end").outlets,
        event_asset("tests.OnEventFlow"),
    ]
    assert [asset.group for asset in found] == ["metaflow"] * 4


def test_a_required_parameter_that_an_event_may_fill_says_so(manifest_file: Callable[..., Path]) -> None:
    params = MetaflowDag(manifest_file("events/on_event")).params
    described = {name: params.get_param(name).description for name in params}
    assert described["alpha"] == "Required, unless filled by the field size of the event tests.OnEventFlow."
    fixed = MetaflowDag(manifest_file("events/on_event"), "fixed", parameters={"alpha": 1}).params
    assert fixed.get_param("alpha").description is None


def test_groups_and_splits_tasks_say_what_they_are(manifest_file: Callable[..., Path]) -> None:
    dag = MetaflowDag(manifest_file("nested_foreach"))
    groups = {name: group for name, group in dag.task_group_dict.items() if name}
    labels = {name: group.group_display_name for name, group in groups.items()}
    assert labels["start-foreach"] == "for each split of start"
    assert labels["fan-foreach"] == "for each split of fan"
    assert labels["fan-foreach-2"] == "for each split of fan, continued"
    assert len(set(labels.values())) == len(groups) == 5
    assert "between the foreach of fan and its join" in groups["fan-foreach"].tooltip
    splits = dag.get_task("fan-splits")
    assert splits.task_display_name == "all splits of fan"
    assert "It runs no code of the flow." in (splits.doc_md or "")


def test_a_splits_task_whose_worker_dies_is_tried_again_whether_or_not_the_steps_are(
    manifest_file: Callable[..., Path],
) -> None:
    assert MetaflowDag(manifest_file("nested_foreach")).get_task("fan-splits").retries == 3
    chosen = MetaflowDag(manifest_file("nested_foreach"), "chosen", default_args={"retries": 1})
    assert chosen.get_task("fan-splits").retries == 1


def test_exit_hooks_are_teardowns_behind_all_steps(manifest_file: Callable[..., Path]) -> None:
    dag = MetaflowDag(manifest_file("events/hooked"))
    hook = dag.get_task("on-error-failed")
    assert hook.is_teardown
    assert not hook.on_failure_fail_dagrun
    assert hook.upstream_task_ids == {"start", "quick", "slow", "join", "end"}


def test_a_group_tells_what_of_its_flow_does_not_count_there(manifest_file: Callable[..., Path]) -> None:
    ignored = "OnBothFlow: @schedule and triggers do not count"
    with DAG("outer", schedule=None), pytest.warns(UserWarning, match=ignored):
        MetaflowTaskGroup(manifest_file("events/on_both"))
    told = manifest_file("linear", "--notify-on-error", "--notify-slack-conn-id", "slack")
    with DAG("outer", schedule=None), pytest.raises(InvalidOptionError, match="no run of its own"):
        MetaflowTaskGroup(told)


def test_notifications_stand_beside_the_callbacks_of_the_user(manifest_file: Callable[..., Path]) -> None:
    def callback(context: object) -> None: ...

    path = manifest_file("linear", "--notify-on-error", "--notify-slack-conn-id", "slack")
    dag = MetaflowDag(path, on_failure_callback=callback)
    first, second = dag.on_failure_callback  # type: ignore[misc]
    assert first is callback
    assert second.endpoints.slack == "slack"
    assert not dag.on_success_callback


def test_a_template_in_params_is_refused_since_airflow_renders_none_there(manifest_file: Callable[..., Path]) -> None:
    from airflow.sdk import Param

    for value in ("{{ ds }}", Param("{{ ds }}", type="string")):
        with pytest.raises(InvalidOptionError, match=r"template for parameter 'text'.*parameters=\{'text'"):
            MetaflowDag(manifest_file("files/parameters"), params={"text": value})


def test_the_step_before_a_foreach_must_push_its_splits(manifest_file: Callable[..., Path]) -> None:
    with pytest.raises(InvalidOptionError, match=r"step start: .*mapped over the XCom"):
        MetaflowDag(manifest_file("foreach"), step_overrides={"start": {"do_xcom_push": False}})
