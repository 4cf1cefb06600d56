"""`python flow.py airflow create`, in process."""

from __future__ import annotations

import ast
import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from tests.support.airflow_api import AirflowApi
from tests.support.command_line import CommandLine

from metaflow_orchestration.documents.manifest import Manifest, read_manifest


def manifest(folder: Path, name: str) -> Manifest:
    return read_manifest(folder / f"{name}.metaflow.json")


def test_a_deployment_is_a_dag_file_and_a_manifest_that_tells_all_options(
    terminal: CommandLine, flows: Path, tmp_path: Path
) -> None:
    done = terminal.run(
        flows / "linear.py", "airflow", "--name", "renamed", "create", str(tmp_path / "d.py"), "--tag=a", "--tag=b",
        "--namespace=mine", "--max-workers=7", "--workflow-timeout=90", "--worker-pool=ml",
        "--is-paused-upon-creation", "--no-auto-emit-events",
    )  # fmt: skip
    assert done.code == 0, done.output
    made = manifest(tmp_path, "d").deployment
    assert (made.name, made.owner, made.tags, made.namespace) == ("renamed", "alice", ("a", "b"), "mine")
    assert (made.max_workers, made.workflow_timeout, made.worker_pool) == (7, 90, "ml")
    assert (made.is_paused_upon_creation, made.emit_events) == (True, False)
    assert f"production:{made.production_token}" in done.output
    assert f"airflow pools import {tmp_path}/d.pools.json" in done.output
    assert "DAG('renamed')" in (tmp_path / "d.py").read_text()


def test_a_deployment_holds_the_graph_the_code_and_the_command_of_its_tasks(
    terminal: CommandLine, flows: Path, tmp_path: Path
) -> None:
    terminal.run(flows / "decorators.py", "airflow", "create", str(tmp_path / "d.py"))
    made = manifest(tmp_path, "d")
    assert Path(made.code.url).is_file()
    assert (made.code.flow_file, made.code.flow_dir, made.code.datastore) == ("decorators.py", str(flows), "local")
    assert made.command.datastore_root == str(tmp_path / ".metaflow")
    assert "--with=orchestrator_internal" in made.command.top_level
    assert made.command.environment["METAFLOW_PRODUCTION_TOKEN"] == made.deployment.production_token
    assert made.command.environment["METAFLOW_USER"] == "alice"


def test_what_airflow_refuses_at_import_is_refused_at_deployment(
    terminal: CommandLine, flows: Path, tmp_path: Path
) -> None:
    """Both deployed, and the DAG file failed in Airflow."""
    long = terminal.run(flows / "linear.py", "airflow", "create", str(tmp_path / "d.py"), f"--tag={'x' * 120}")
    assert (long.code, "has 120 characters; Airflow takes 100" in long.output) == (1, True), long.output
    flow = tmp_path / "scheduled.py"
    text = (flows / "linear.py").read_text().replace("class Linear", '@schedule(cron="0 12 15W * ? *")\nclass Linear')
    flow.write_text(text.replace("import FlowSpec", "import schedule, FlowSpec"))
    odd = terminal.run(flow, "airflow", "create", str(tmp_path / "d.py"))
    assert (odd.code, "uses W (nearest weekday)" in odd.output) == (1, True), odd.output
    assert not (tmp_path / "d.py").exists()


def test_options_of_metaflow_itself_reach_the_steps(terminal: CommandLine, flows: Path, tmp_path: Path) -> None:
    terminal.run(flows / "linear.py", "--with", "retry:times=2", "airflow", "create", str(tmp_path / "d.py"))
    middle = manifest(tmp_path, "d").graph.step("middle")
    assert middle.retry.user == 2
    assert any(spec.startswith("retry:") for spec in middle.with_specs)


@pytest.mark.parametrize(
    ("group", "arguments", "message"),
    [
        ((), ("linear.txt",), "has no .py suffix"),
        ((), (), "METAFLOW_AIRFLOW_DAGS_FOLDER is not set"),
        (("--name", "a b"), ("d.py",), "'a b' cannot be a DAG id"),
        ((), ("d.py", "--max-workers=0"), "--max-workers is 0; it must be at least 1"),
        ((), ("d.py", "--workflow-timeout=0"), "--workflow-timeout is 0; it must be at least 1"),
        ((), ("d.py", "--no-auto-emit-events", "--emit-step-events"), "contradicts --no-auto-emit-events"),
        ((), ("d.py", "--tag="), "--tag"),
        ((), ("d.py", "--notify-on-error"), "asks for notifications, but no recipient is given"),
        ((), ("unknown://bucket/d.py",), "unknown://bucket/d.py cannot be written to"),
    ],
)
def test_bad_input_gets_one_message_and_leaves_no_file(
    terminal: CommandLine, flows: Path, tmp_path: Path, group: tuple[str, ...], arguments: tuple[str, ...], message: str
) -> None:
    done = terminal.run(flows / "linear.py", "airflow", *group, "create", *arguments)
    assert done.code != 0
    assert message in done.output
    assert not list(tmp_path.glob("**/*.metaflow.json"))


def test_the_flow_itself_is_never_overwritten(terminal: CommandLine, flows: Path) -> None:
    before = (flows / "linear.py").read_bytes()
    done = terminal.run(flows / "linear.py", "airflow", "create", str(flows / "linear.py"))
    assert "cannot be the same as flow file name" in done.output
    assert (flows / "linear.py").read_bytes() == before


def test_a_manifest_can_be_written_alone(terminal: CommandLine, flows: Path, tmp_path: Path) -> None:
    file = tmp_path / "d.metaflow.json"
    done = terminal.run(flows / "linear.py", "airflow", "create", str(file), "--manifest-only")
    assert done.code == 0, done.output
    assert [one.name for one in tmp_path.glob("d.*")] == ["d.metaflow.json"]
    assert read_manifest(file).graph.name == "LinearFlow"


def test_what_the_workers_cannot_honour_is_warned_of(terminal: CommandLine, flows: Path, tmp_path: Path) -> None:
    done = terminal.run(flows / "decorators.py", "airflow", "create", str(tmp_path / "d.py"))
    (line,) = [line for line in done.output.splitlines() if "@resources" in line]
    assert line.startswith("Warning: flow DecoratorsFlow")


# Tokens.


def create(terminal: CommandLine, flows: Path, *arguments: str, user: str = "alice") -> str:
    """Deploy, and return the token that the deployment has; else the output."""
    done = terminal.run(flows / "linear.py", "airflow", "create", "d.py", *arguments, user=user)
    return manifest(terminal.root, "d").deployment.production_token if done.code == 0 else done.output


def test_a_deployment_keeps_its_token_until_a_new_one_is_asked_for(terminal: CommandLine, flows: Path) -> None:
    first = create(terminal, flows)
    assert first.startswith("linearflow-0-")
    assert create(terminal, flows) == first
    second = create(terminal, flows, "--generate-new-token")
    assert second.startswith("linearflow-1-")
    assert create(terminal, flows, "--new-token=production:mine") == "mine"
    assert create(terminal, flows) == "mine"
    assert "is not supported after using --new-token" in create(terminal, flows, "--generate-new-token")


def test_somebody_else_needs_the_token_once(terminal: CommandLine, flows: Path) -> None:
    token = create(terminal, flows)
    told = create(terminal, flows, user="bob")
    assert "was deployed to Airflow by the user alice; their production token is needed" in told
    assert "`airflow create --authorize TOKEN`" in told
    assert "is needed" in create(terminal, flows, "--authorize=guess", user="bob")
    assert create(terminal, flows, f"--authorize=production:{token}", user="bob") == token
    assert create(terminal, flows, user="bob") == token
    # The name is bob's now; alice still has the token.
    assert create(terminal, flows) == token


# Notifications.


def test_a_secret_of_a_notification_is_in_airflow_and_nowhere_else(
    terminal: CommandLine, flows: Path, tmp_path: Path, api: AirflowApi
) -> None:
    done = terminal.run(
        flows / "linear.py", "airflow", "create", "--notify-on-success", "--notify-slack-webhook-url=https://s3cret"
    )
    assert done.code == 0, done.output
    assert api.connections["metaflow.LinearFlow.slack"]["password"] == "https://s3cret"
    made = manifest(tmp_path / "dags", "LinearFlow").deployment.notifications
    assert made is not None
    assert (made.slack, made.on_success, made.on_error) == ("metaflow.LinearFlow.slack", True, False)
    written = [one.read_text() for one in (tmp_path / "dags").iterdir()]
    assert not any("s3cret" in text for text in [*written, done.output])


# A trial.


@pytest.mark.parametrize(("succeeds", "code"), [(True, 0), (False, 1)])
def test_a_trial_takes_parameters_by_their_type_and_fails_as_its_run_does(
    terminal: CommandLine, flows: Path, monkeypatch: pytest.MonkeyPatch, succeeds: bool, code: int
) -> None:
    from airflow_provider_metaflow.embedded import trial

    asked: list[object] = []

    def run_once(compiled: Manifest, parameters: object, home: str | None) -> bool:
        asked.extend([compiled.graph.name, parameters, home])
        return succeeds

    monkeypatch.setattr(trial, "run_once", run_once)
    done = terminal.run(flows / "recursion.py", "airflow", "test", "--rounds", "2", "--home", "h")
    assert done.code == code, done.output
    assert asked == ["RecursionFlow", {"rounds": 2}, "h"]
    assert ("The run of *RecursionFlow* failed." in done.output) is not succeeds


@pytest.mark.parametrize("options", [(), ("--namespace=user:bob",)])
def test_a_trial_is_in_the_namespace_of_its_user_and_takes_no_token(
    terminal: CommandLine, flows: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    """It was in that of the token of a deployment, which nobody had made: no flow saw what `run` had stored."""
    from airflow_provider_metaflow.embedded import trial

    made: list[Manifest] = []
    monkeypatch.setattr(trial, "run_once", lambda compiled, *_: made.append(compiled) or True)
    create(terminal, flows)
    # Nothing is deployed, so that the owner of the name is not asked for a token.
    done = terminal.run(flows / "linear.py", "airflow", "test", *options, user="bob")
    assert done.code == 0, done.output
    assert not made[0].command.environment["METAFLOW_PRODUCTION_TOKEN"]
    assert (made[0].command.environment["METAFLOW_USER"], made[0].deployment.production_token) == ("bob", "")
    assert made[0].deployment.namespace == ("user:bob" if options else None)
    assert "is needed" in terminal.run(flows / "linear.py", "airflow", "create", "d.py", user="bob").output


def test_a_trial_without_airflow_names_the_extra_before_it_compiles(
    terminal: CommandLine, flows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_metaflow.embedded import trial

    def version(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(trial, "version", version)
    done = terminal.run(flows / "linear.py", "airflow", "test")
    assert (done.code, 'pip install "airflow-provider-metaflow[airflow]"' in done.output) == (1, True), done.output


def test_a_deployment_says_how_to_read_its_results_who_may_deploy_it_and_what_comes_next(
    terminal: CommandLine, flows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("METAFLOW_AIRFLOW_URL", raising=False)
    done = terminal.run(flows / "linear.py", "airflow", "--name=other one.x".replace(" ", "_"), "create", "d.py")
    token = manifest(tmp_path, "d").deployment.production_token
    assert f'namespace("production:{token}")' in done.output
    assert f"airflow create --authorize {token}" in done.output
    # The command line of the user, up to the verb.
    lines = [line.strip() for line in done.output.splitlines()]
    assert f"python {flows / 'linear.py'} airflow --name=other_one.x trigger --unpause --wait" in lines
    assert "set METAFLOW_AIRFLOW_URL to the address of your Airflow" in done.output


def test_the_deployer_is_told_what_was_made(terminal: CommandLine, flows: Path, tmp_path: Path) -> None:
    terminal.run(flows / "linear.py", "airflow", "create", "d.py", "--deployer-attribute-file", "told.json")
    told = json.loads((tmp_path / "told.json").read_text())
    assert (told["name"], told["flow_name"], told["additional_info"]) == (
        "LinearFlow",
        "LinearFlow",
        {"file": "d.py"},
    )


def test_another_dag_file_with_the_same_dag_id_is_named_and_another_dag_is_never_overwritten(
    terminal: CommandLine, flows: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "dags"
    first = terminal.run(flows / "linear.py", "airflow", "create", f"{folder}/team/one.py")
    assert "Warning" not in first.output
    again = terminal.run(flows / "linear.py", "airflow", "create", f"{folder}/team/one.py")
    assert (again.code, "Warning" in again.output) == (0, False)
    second = terminal.run(flows / "linear.py", "airflow", "create", f"{folder}/two.py")
    assert f"the DAG 'LinearFlow' is made by another DAG file, too: {folder}/team/one.py." in second.output
    (folder / "hand.py").write_text("from airflow.sdk import DAG\nwith DAG(dag_id='by_hand'):\n    pass\n")
    third = terminal.run(flows / "linear.py", "airflow", "--name", "by_hand", "create", f"{folder}/three.py")
    assert f"the DAG 'by_hand' is made by another DAG file, too: {folder}/hand.py." in third.output

    other = terminal.run(flows / "linear.py", "airflow", "--name", "other", "create", f"{folder}/two.py")
    assert other.code != 0
    assert f"{folder}/two.py is the deployment 'LinearFlow' of the flow LinearFlow, which would be" in other.output
    by_hand = terminal.run(flows / "linear.py", "airflow", "create", f"{folder}/hand.py")
    assert by_hand.code != 0
    assert f"{folder}/hand.py was not written by `airflow create`, and would be overwritten." in by_hand.output
    assert "by_hand" in (folder / "hand.py").read_text()
    (tmp_path / "moved.py").write_text((flows / "linear.py").read_text())
    moved = terminal.run(tmp_path / "moved.py", "airflow", "create", f"{folder}/two.py")
    assert "This replaces the deployment of the flow LinearFlow in linear.py by the one in moved.py." in moved.output


def test_the_dag_file_calls_something_named_dag_which_is_the_dag_of_the_flow(
    terminal: CommandLine, flows: Path, tmp_path: Path
) -> None:
    terminal.run(flows / "linear.py", "airflow", "create", str(tmp_path / "d.py"))
    tree = ast.parse((tmp_path / "d.py").read_text())
    calls = [one.func.id for one in ast.walk(tree) if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)]
    assert calls == ["DAG"]
    bag = DagBag(str(tmp_path / "d.py"))
    assert (list(bag.dags), bag.import_errors) == (["LinearFlow"], {})


def test_a_dag_file_that_an_older_release_has_written_is_deleted_and_replaced(
    terminal: CommandLine, flows: Path, tmp_path: Path
) -> None:
    for verb in ("delete", "create"):
        terminal.run(flows / "linear.py", "airflow", "create", str(tmp_path / "d.py"))
        (tmp_path / "d.py").write_text(
            '"""DAG(\'LinearFlow\') of the Metaflow flow LinearFlow, written by `airflow create`."""\n'
            "from airflow_provider_metaflow import MetaflowDag\n\n"
            "dag = MetaflowDag('d.metaflow.json')  # airflow.sdk.DAG(\n"
        )
        done = terminal.run(flows / "linear.py", "airflow", verb, str(tmp_path / "d.py"))
        assert (done.code, "Warning: flow" in done.output) == (0, False), done.output
    assert "MetaflowDag as DAG" in (tmp_path / "d.py").read_text()
