"""What `Deployer(…).airflow()` and `.sfn()` hand out: deployed flows and their runs."""

from __future__ import annotations

import gc
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from metaflow.exception import MetaflowException
from msgspec.structs import replace
from tests.support.airflow_api import AirflowApi

from airflow_provider_metaflow.plan.record import record_line
from metaflow_adapters.step_functions.deploy import deployments
from metaflow_adapters.step_functions.runs import runs as sfn_runs
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.deployer import (
    airflow_deployer_objects,
    airflow_triggered_run,
    base,
    published,
)
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.deployer import calls as deployer_calls
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.deployer.airflow_deployer_objects import (
    AirflowDeployedFlow,
)
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.deployer.airflow_triggered_run import (
    AirflowTriggeredRun,
)
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.deployer.argo_deployer_objects import (
    ArgoDeployedFlow,
    ArgoTriggeredRun,
)
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.deployer.sfn_deployer_objects import (
    SfnDeployedFlow,
    SfnTriggeredRun,
)
from metaflow_orchestration.documents.manifest import Manifest, encode_manifest
from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.identity import airflow_run_id

RUN = airflow_run_id("flow.one", "r")


class Calls:
    """Notes the verbs that are called, in the place of `python flow.py …`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.verbs: list[tuple[str, dict[str, Any]]] = []
        monkeypatch.setattr(base, "started_run", self._started)
        for module in (airflow_deployer_objects, airflow_triggered_run):
            monkeypatch.setattr(module, "run_verb", self._verb)

    def _started(self, deployer: Any, verb: str, **options: Any) -> str:
        self.verbs.append((verb, options))
        return json.dumps({"name": deployer.name, "metadata": "local@/x", "pathspec": "GroupedFlow/run-9"})

    def _verb(self, _: Any, verb: str, **options: Any) -> bool:
        self.verbs.append((verb, options))
        return True


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


@pytest.fixture
def deployed(api: AirflowApi, compiled: Callable[..., Manifest]) -> AirflowDeployedFlow:
    api.add_dag("flow.one", record_line(compiled("grouped")))
    return AirflowDeployedFlow.from_deployment("flow.one", metadata="local@/x")


def test_a_deployment_is_found_by_its_name_without_its_flow_file(
    deployed: AirflowDeployedFlow, api: AirflowApi
) -> None:
    assert (deployed.deployer.name, deployed.deployer.flow_name) == ("flow.one", "GroupedFlow")
    assert deployed.deployer.metadata == "local@/x"
    with pytest.raises(MetaflowException, match=r"has no DAG flow.two"):
        AirflowDeployedFlow.from_deployment("flow.two")


def test_a_deployment_that_was_just_written_is_returned_once_airflow_has_parsed_it(
    deployed: AirflowDeployedFlow, api: AirflowApi, compiled: Callable[..., Manifest], tmp_path: Path
) -> None:
    """Also one that replaces another, whose record stands in Airflow still."""
    newer = compiled("files/parameters")
    newer = replace(newer, deployment=replace(newer.deployment, name="flow.one"))
    for name in ("flow.one", "flow.new"):
        (tmp_path / "dags").mkdir(exist_ok=True)
        (tmp_path / f"dags/{name}.metaflow.json").write_bytes(encode_manifest(newer))
        asked: list[str] = []

        def parse(method: str, path: str, name: str = name, asked: list[str] = asked) -> None:
            asked.append(path)
            if len([one for one in asked if one.endswith("/details")]) == 2:
                api.add_dag(name, record_line(newer))

        api.on_request = parse
        found = AirflowDeployedFlow.from_deployment(name, metadata="local@/x")
        assert found.deployer.flow_name == newer.graph.name
        assert len([one for one in asked if one.endswith("/details")]) >= 2


def test_a_deployment_that_another_process_has_deleted_is_said_to_be_deleted(
    deployed: AirflowDeployedFlow, api: AirflowApi, tmp_path: Path
) -> None:
    (tmp_path / "dags").mkdir()
    api.dags["flow.one"]["fileloc"] = str(tmp_path / "dags/flow.one.py")
    with pytest.raises(MetaflowException, match=r"the deployment flow\.one was deleted"):
        AirflowDeployedFlow.from_deployment("flow.one")


def test_what_a_deployer_of_this_process_wrote_elsewhere_is_waited_for_too(
    api: AirflowApi, compiled: Callable[..., Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = compiled("linear")
    (tmp_path / "mine.metaflow.json").write_bytes(encode_manifest(manifest))
    monkeypatch.setattr(published, "WAIT_SECONDS", 0)
    published.note_created("LinearFlow", str(tmp_path / "mine.py"))
    api.add_dag("LinearFlow", record_line(compiled("grouped")))
    with pytest.raises(MetaflowException, match="has not parsed this deployment of the DAG LinearFlow within 0 s"):
        AirflowDeployedFlow.from_deployment("LinearFlow")
    api.add_dag("LinearFlow", record_line(manifest))
    assert AirflowDeployedFlow.from_deployment("LinearFlow", metadata="local@/x").deployer.flow_name == "LinearFlow"


def test_a_deleted_deployment_is_said_to_be_deleted_and_its_runs_are_found(
    deployed: AirflowDeployedFlow, api: AirflowApi, calls: Calls
) -> None:
    told = "the deployment flow.one was deleted"
    deployed.delete()
    with pytest.raises(MetaflowException, match=told):
        AirflowDeployedFlow.from_deployment("flow.one")
    published._DELETED.clear()
    assert AirflowDeployedFlow.from_deployment("flow.one", metadata="local@/x").deployer.name == "flow.one"
    # As Airflow sees it, whoever has deleted it.
    api.dags["flow.one"]["is_stale"] = True
    with pytest.raises(MetaflowException, match=told):
        AirflowDeployedFlow.from_deployment("flow.one")
    assert AirflowDeployedFlow.get_triggered_run("flow.one", RUN, "local@/x").pathspec == f"GroupedFlow/{RUN}"


def test_the_flow_file_of_a_stand_in_is_removed_with_it(deployed: AirflowDeployedFlow) -> None:
    file = Path(deployed.deployer.flow_file)
    assert file.is_file()
    run = AirflowDeployedFlow.get_triggered_run("flow.one", RUN, "local@/x")
    other = Path(run.deployer.flow_file)
    assert other.is_file()
    del run
    gc.collect()
    assert (file.exists(), other.exists()) == (True, False)


def test_deployments_are_listed_by_flow_without_stale_ones(deployed: AirflowDeployedFlow, api: AirflowApi) -> None:
    api.add_dag("flow.old", api.dags["flow.one"]["doc_md"], is_stale=True)
    api.add_dag("plain", "no record")
    assert [one.deployer.name for one in AirflowDeployedFlow.list_deployed_flows()] == ["flow.one"]
    assert [one.deployer.name for one in AirflowDeployedFlow.list_deployed_flows("GroupedFlow")] == ["flow.one"]
    assert list(AirflowDeployedFlow.list_deployed_flows("Other")) == []


def test_a_run_tells_its_status_as_metaflows_users_know_it(deployed: AirflowDeployedFlow, api: AirflowApi) -> None:
    held = api.add_run("flow.one", "r", "queued")
    run = AirflowDeployedFlow.get_triggered_run("flow.one", RUN)
    for state, status, is_running in (
        ("queued", "PENDING", True), ("running", "RUNNING", True), ("success", "SUCCEEDED", False),
        ("failed", "FAILED", False),
    ):  # fmt: skip
        held["state"] = state
        assert (run.status, run.is_running) == (status, is_running)
    api.runs["flow.one"].clear()
    assert (run.status, run.is_running) == (None, False)


def test_a_run_is_waited_for_no_longer_than_asked(deployed: AirflowDeployedFlow, api: AirflowApi) -> None:
    held = api.add_run("flow.one", "r")
    run = AirflowDeployedFlow.get_triggered_run("flow.one", RUN)
    with pytest.raises(TimeoutError):
        run.wait_for_completion(check_interval=0, timeout=0)
    looks: list[int] = []

    def end(method: str, path: str) -> None:
        looks.append(1)
        if len(looks) > 6:
            held["state"] = "success"

    api.on_request = end
    run.wait_for_completion(check_interval=0, timeout=30)
    assert run.status == "SUCCEEDED"


@pytest.mark.usefixtures("api")
def test_a_run_that_airflow_does_not_know_has_not_ended(deployed: AirflowDeployedFlow, api: AirflowApi) -> None:
    """It was taken for one that had ended, and whoever waited for it went on without its work."""
    api.add_run("flow.one", "r")
    run = AirflowDeployedFlow.get_triggered_run("flow.one", RUN)
    api.runs["flow.one"].clear()
    with pytest.raises(InvalidOptionError, match=f"Airflow has no run GroupedFlow/{RUN}"):
        run.wait_for_completion(check_interval=0, timeout=30)


def test_runs_are_listed_by_their_status(deployed: AirflowDeployedFlow, api: AirflowApi) -> None:
    for name, state in (("r", "failed"), ("s", "success"), ("t", "queued")):
        api.add_run("flow.one", name, state)
    every = [one.pathspec for one in deployed.list_runs()]
    assert every == [f"GroupedFlow/{airflow_run_id('flow.one', name)}" for name in ("t", "s", "r")]
    chosen = [one.pathspec for one in deployed.list_runs(["FAILED", "PENDING"])]
    assert chosen == [every[0], every[2]]
    with pytest.raises(KeyError):
        list(deployed.list_runs(["LOST"]))


def test_verbs_of_a_deployment_and_of_a_run_are_those_of_the_command_line(
    deployed: AirflowDeployedFlow, api: AirflowApi, calls: Calls
) -> None:
    assert deployed.trigger(text="x").pathspec == "GroupedFlow/run-9"
    run = AirflowDeployedFlow.get_triggered_run("flow.one", RUN)
    assert [run.terminate(authorize="t"), run.suspend(), run.unsuspend()] == [True] * 3
    assert deployed.delete() is True
    deployed.deployer.additional_info = {"file": "dags/x.py"}
    deployed.delete()
    assert calls.verbs == [
        ("trigger", {"text": "x"}),
        ("terminate", {"run_id": RUN, "authorize": "t"}),
        ("suspend", {"run_id": RUN}),
        ("unsuspend", {"run_id": RUN}),
        ("delete", {}),
        ("delete", {"file": "dags/x.py"}),
    ]


def test_a_resumed_run_needs_no_parameters_that_its_origin_has(
    api: AirflowApi, calls: Calls, compiled: Callable[..., Manifest]
) -> None:
    api.add_dag("flow.two", record_line(compiled("events/on_event")))
    api.add_run("flow.two", "r", "failed", conf={"alpha": 2.5, "text": "t"})
    deployed = AirflowDeployedFlow.from_deployment("flow.two", metadata="local@/x")
    deployed.resume("r", step_to_rerun="end", text="mine")
    assert calls.verbs == [("resume", {"origin_run_id": "r", "step_to_rerun": "end", "text": "mine"})]


def command_of(deployer: Any, verb: str, **options: Any) -> list[str]:
    """Return the command that Metaflow's API makes of a verb."""
    commands: list[Any] = []
    process = SimpleNamespace(process=SimpleNamespace(returncode=0), sync_wait=lambda: None)
    deployer.spm = SimpleNamespace(
        run_command=lambda command, **_: commands.append(command) or 7, get=lambda _: process
    )
    deployer_calls.run_verb(deployer, verb, **options)
    return [str(word) for word in commands[0]]


def test_metaflows_api_insists_on_required_parameters_in_a_trigger_only(
    api: AirflowApi, compiled: Callable[..., Manifest]
) -> None:
    api.add_dag("flow.three", record_line(compiled("files/parameters")))
    for verb in ("resume", "trigger", "resume"):
        # The options of the parameters are added again for each command.
        deployer = AirflowDeployedFlow.from_deployment("flow.three", metadata="local@/x").deployer
        if verb == "trigger":
            with pytest.raises(ValueError, match="Missing argument: required"):
                command_of(deployer, verb, number=5)
        else:
            command = command_of(deployer, verb, origin_run_id="r", number=5)
            assert command[command.index("--number") + 1] == "5"
    with pytest.raises((TypeError, ValueError), match="nmuber"):
        command_of(deployer, "resume", origin_run_id="r", nmuber=5)


@pytest.mark.parametrize(
    ("flow_class", "run_class"),
    [
        (AirflowDeployedFlow, AirflowTriggeredRun),
        (ArgoDeployedFlow, ArgoTriggeredRun),
        (SfnDeployedFlow, SfnTriggeredRun),
    ],
)
def test_flows_and_runs_are_resumed_alike_on_each_orchestrator(flow_class: Any, run_class: Any, calls: Calls) -> None:
    """Airflow had the one, the others had the other, without parameters."""
    deployer = SimpleNamespace(name="one", flow_name="GroupedFlow", metadata="local@/x")
    content = json.dumps({"name": "one", "metadata": "local@/x", "pathspec": "GroupedFlow/run-1"})
    run, flow = run_class(deployer=deployer, content=content), flow_class(deployer=deployer)
    resumed = [
        flow.resume(origin_run_id="run-1", text="x"),
        flow.resume(origin_run_id="run-1", step_to_rerun="body"),
        run.resume(text="x"),
        run.resume(step_to_rerun="body"),
    ]
    assert {type(one) for one in resumed} == {run_class}
    assert {one.pathspec for one in resumed} == {"GroupedFlow/run-9"}
    # By the option: where Airflow's verb has an argument, it is for going on in place.
    assert calls.verbs == [
        ("resume", {"origin_run_id": "run-1", "text": "x"}),
        ("resume", {"origin_run_id": "run-1", "step_to_rerun": "body"}),
        ("resume", {"origin_run_id": "run-1", "text": "x"}),
        ("resume", {"origin_run_id": "run-1", "step_to_rerun": "body"}),
    ]


# Step Functions.


class SfnRuns:
    def __init__(self, *_: object) -> None:
        pass

    machines: dict[str, str] | None = {"metaflow.flow_name": "GroupedFlow", "metaflow.owner": "ann",
                                       "metaflow.production_token": "t0ken"}  # fmt: skip
    states: list[str] = []
    asked: list[Any] = []

    def machine(self) -> tuple[None, dict[str, str]]:
        if self.machines is None:
            raise InvalidOptionError("it is not deployed.")
        return None, self.machines

    def find(self, run_id: str) -> dict[str, str]:
        self.asked.append(run_id)
        return {"status": self.states.pop(0)}

    def every(self, states: list[str]) -> list[dict[str, str]]:
        self.asked.append(states)
        return [{"name": "1"}, {"name": "2"}]


def test_a_state_machine_is_a_deployed_flow(monkeypatch: pytest.MonkeyPatch, calls: Calls) -> None:
    monkeypatch.setattr(sfn_runs, "SfnRuns", SfnRuns)
    monkeypatch.setattr(deployments, "deployed_machines", lambda _, flow: ["one"] if flow == "GroupedFlow" else [])
    (deployed,) = SfnDeployedFlow.list_deployed_flows("GroupedFlow")
    assert (deployed.deployer.name, deployed.deployer.flow_name) == ("one", "GroupedFlow")
    assert deployed.production_token == "t0ken"
    assert [one.pathspec for one in deployed.list_runs(["FAILED"])] == ["GroupedFlow/sfn-1", "GroupedFlow/sfn-2"]
    assert SfnRuns.asked[-1] == ["FAILED"]
    for states, message in ((["LOST"], "Invalid states"), (["FAILED", "FAILED"], "Duplicate states")):
        with pytest.raises(ValueError, match=message):
            deployed.list_runs(states)
    assert deployed.trigger(text="x").pathspec == "GroupedFlow/run-9"
    run = SfnDeployedFlow.get_triggered_run("one", "sfn-1", metadata="local@/x")
    SfnRuns.states = ["RUNNING", "RUNNING", "SUCCEEDED", "SUCCEEDED"]
    run.wait_for_completion(check_interval=0, timeout=30)
    assert run.status == "SUCCEEDED"
    SfnRuns.states = ["RUNNING"] * 9
    with pytest.raises(TimeoutError, match="has not ended in 0 s"):
        run.wait_for_completion(check_interval=0, timeout=0)
    run.resume(step_to_rerun="body")
    run.resume(redrive=True)
    assert calls.verbs[1:] == [
        ("resume", {"origin_run_id": "sfn-1", "step_to_rerun": "body"}),
        ("resume", {"origin_run_id": "sfn-1", "redrive": True}),
    ]
    monkeypatch.setattr(SfnRuns, "machines", None)
    assert deployed.production_token is None


# How the command line is called.


@pytest.mark.parametrize("code", [0, 1])
def test_a_verb_that_starts_a_run_tells_of_it_or_fails(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    from metaflow.runner import utils

    seen: list[Any] = []

    def call(_: Any, verb: str, **options: Any) -> Any:
        seen.append((verb, options["text"], bool(options["deployer_attribute_file"])))
        return SimpleNamespace(process=SimpleNamespace(returncode=code), sync_wait=lambda: seen.append("waited"))

    monkeypatch.setattr(deployer_calls, "_call", call)
    monkeypatch.setattr(utils, "handle_timeout", lambda *_: "told")
    deployer = SimpleNamespace(name="one", TYPE="airflow", file_read_timeout=1)
    if code == 0:
        assert deployer_calls.started_run(deployer, "trigger", text="x") == "told"
    else:
        with pytest.raises(subprocess.SubprocessError, match="trigger of one on airflow failed"):
            deployer_calls.started_run(deployer, "trigger", text="x")
    assert seen == [("trigger", "x", True), "waited"]


@pytest.mark.parametrize(("code", "successful"), [(0, True), (1, False)])
def test_a_verb_is_called_as_a_command_and_its_exit_code_tells(
    code: int, successful: bool, deployed: AirflowDeployedFlow
) -> None:
    commands: list[Any] = []
    process = SimpleNamespace(process=SimpleNamespace(returncode=code), sync_wait=lambda: None)
    deployed.deployer.spm = SimpleNamespace(
        run_command=lambda command, **_: commands.append(command) or 7, get=lambda _: process
    )
    assert deployer_calls.run_verb(deployed.deployer, "terminate", run_id="r", authorize="t") is successful
    command = " ".join(commands[0][1:])
    assert "airflow --name flow.one terminate" in command
    assert "--authorize t" in command
    assert commands[0][-1] == "r" or " r " in command
