"""Whoever looks at runs, in the API server, the triggerer or a worker, runs no code of those who made them."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.environment import environment_variable
from tests.support.metadata_service import MetadataService, metadata_service
from tests.support.object_store import BUCKET, ObjectStore, object_store
from tests.support.poison import Payload, assert_poisoned, poison
from tests.support.results import run_locally

from airflow_provider_metaflow import reading
from airflow_provider_metaflow.hooks.metaflow import MetaflowHook
from airflow_provider_metaflow.reading.environment import reading_environment, starting_environment
from airflow_provider_metaflow.reading.pool import POOL, ReaderPool
from metaflow_orchestration.exceptions import MetaflowQueryError

SECRETS = {
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://canary",
    "AIRFLOW__CORE__FERNET_KEY": "canary-fernet",
    "AIRFLOW__API_AUTH__JWT_SECRET": "canary-jwt",
    "AIRFLOW_CONN_WAREHOUSE": "canary-connection",
    "AIRFLOW_VAR_TOKEN": "canary-variable",
    "_AIRFLOW_INTERNAL": "canary-internal",
    "DATABASE_URL": "canary-database",
    "SLACK_TOKEN": "canary-slack",
}


@pytest.fixture(autouse=True)
def no_processes_left() -> Iterator[None]:
    yield
    POOL.close()


@pytest.fixture(scope="module")
def pristine(flows: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A local datastore with a run that has a card, and the run's id."""
    root = tmp_path_factory.mktemp("runs")
    # Metaflow saves the cards of a local datastore in the one above the current folder.
    (root / ".metaflow").mkdir()
    return root, run_locally(Path(shutil.copy(flows / "cards.py", root)), root, "--with", "orchestrator_internal")


@pytest.fixture
def sysroot(pristine: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(pristine[0], tmp_path / "sysroot")


@pytest.fixture
def run(pristine: tuple[Path, str]) -> str:
    return f"CardsFlow/{pristine[1]}"


@pytest.fixture(params=["files", "process"])
def hook(request: pytest.FixtureRequest, sysroot: Path) -> MetaflowHook:
    """A hook of that datastore; read in this process, and by a process that has imported Metaflow."""
    made = MetaflowHook()
    variables = {"METAFLOW_DATASTORE_SYSROOT_LOCAL": str(sysroot)}
    if request.param == "files":
        variables.update(METAFLOW_DEFAULT_DATASTORE="local", METAFLOW_DEFAULT_METADATA="local")
    made.get_conn = lambda: variables  # type: ignore[method-assign]
    return made


@pytest.mark.parametrize("elsewhere", [True, False])
def test_the_datastore_that_a_deployment_names_is_read(
    hook: MetaflowHook, run: str, sysroot: Path, tmp_path: Path, elsewhere: bool
) -> None:
    """The tab asks with the root of the manifest, which ends with `.metaflow`, whatever is configured here."""
    if elsewhere:
        variables = {**hook.get_conn(), "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(tmp_path / "other")}
        hook.get_conn = lambda: variables  # type: ignore[method-assign]
    source = {"metadata": "local", "datastore": "local", "root": str(sysroot / ".metaflow")}
    found = hook.ask("overview", pathspec=run, source=source)
    assert [step["step"] for step in found["steps"]] == ["start", "end"]


def everything(hook: MetaflowHook, run: str) -> dict[str, Any]:
    """Ask all that can be asked of a run."""
    (start,) = hook.ask("overview", pathspec=run, step="start")["steps"]
    (task,) = start["tasks"]
    (card,) = task["cards"]
    artifact = {"name": "title", "max_bytes": 1000}
    return {
        "run": hook.ask("run", pathspec=run),
        "overview": hook.ask("overview", pathspec=run),
        "of the run": hook.ask("artifact", pathspec=run, **artifact),
        "of a step": hook.ask("artifact", pathspec=f"{run}/start", **artifact),
        "of a task": hook.ask("artifact", pathspec=task["pathspec"], value=False, **artifact),
        "card": hook.ask("card", pathspec=task["pathspec"], hash=card["hash"], max_bytes=10**7),
    }


def test_no_question_about_a_run_unpickles_what_its_tasks_have_stored(
    hook: MetaflowHook, run: str, sysroot: Path, tmp_path: Path
) -> None:
    before = everything(hook, run)
    assert before["run"] == {"exists": True, "finished": True, "successful": True}
    assert before["overview"]["parameters"] == {"title": "'<b>bold</b>'"}
    assert before["of the run"]["value"] == "<b>bold</b>"
    assert before["card"]["html"].startswith("<!DOCTYPE html>")
    written, root = tmp_path / "written", sysroot / ".metaflow"
    for folder in (root / run).glob("*/*/"):
        if folder.name != "_meta" and folder.parent.name != "_meta":
            poison(root, str(folder.relative_to(root)), written)
            assert_poisoned(root, str(folder.relative_to(root)), written)
    assert everything(hook, run) == before
    assert not written.exists()


def test_a_run_without_summaries_is_shown_by_name_and_no_value_is_loaded(
    hook: MetaflowHook, run: str, sysroot: Path, tmp_path: Path
) -> None:
    for summary in (sysroot / ".metaflow").rglob("*.orchestrator_summary.json"):
        summary.unlink()
    written, root = tmp_path / "written", sysroot / ".metaflow"
    for folder in (root / run).glob("*/*/"):
        if folder.name != "_meta" and folder.parent.name != "_meta":
            poison(root, str(folder.relative_to(root)), written)
    overview = hook.ask("overview", pathspec=run)
    assert overview["finished"]
    assert overview["parameters"] == {"title": None}
    assert overview["steps"][0]["tasks"][0]["artifacts"][0]["name"] == "title"
    assert hook.ask("artifact", pathspec=run, name="title", max_bytes=1000, value=False)["exists"]
    with pytest.raises(MetaflowQueryError, match="was not written down as JSON by its task"):
        hook.ask("artifact", pathspec=run, name="title", max_bytes=1000)
    assert not written.exists()


def test_a_sensor_in_the_triggerer_unpickles_nothing(run: str, sysroot: Path, tmp_path: Path) -> None:
    root, written = sysroot / ".metaflow", tmp_path / "written"
    for folder in (root / run).glob("*/*/"):
        if folder.name != "_meta" and folder.parent.name != "_meta":
            poison(root, str(folder.relative_to(root)), written)
    made = MetaflowHook()

    async def settings() -> dict[str, str]:
        return {"METAFLOW_DATASTORE_SYSROOT_LOCAL": str(sysroot)}

    made.aget_conn = settings  # type: ignore[method-assign]
    questions = [made.aask("run", pathspec=run), made.aask("artifact", pathspec=run, name="title", max_bytes=99)]

    async def both() -> list[Any]:
        return list(await asyncio.gather(*questions))

    finished, artifact = asyncio.run(both())
    assert finished["finished"]
    assert artifact["value"] == "<b>bold</b>"
    assert not written.exists()


def test_links_in_a_datastore_show_nothing_of_the_machine(hook: MetaflowHook, run: str, sysroot: Path) -> None:
    secret = sysroot.parent / "secret.html"
    secret.write_text("canary")
    (card,) = (sysroot / ".metaflow" / "mf.cards").rglob("*.html")
    card.unlink()
    card.symlink_to(secret)
    (task,) = hook.ask("overview", pathspec=run, step="start")["steps"][0]["tasks"]
    question = {"pathspec": task["pathspec"], "hash": card.stem.split("-")[-1], "max_bytes": 1000}
    assert not hook.ask("card", **question)["exists"]
    # Nor does a link among the folders.
    outside = sysroot.parent / "outside"
    shutil.move(card.parent, outside)
    (outside / card.name).unlink()
    (outside / card.name).write_text("canary")
    card.parent.symlink_to(outside)
    assert not hook.ask("card", **question)["exists"]


def test_a_named_pipe_in_a_datastore_stops_nobody(hook: MetaflowHook, run: str, sysroot: Path) -> None:
    (card,) = (sysroot / ".metaflow" / "mf.cards").rglob("*.html")
    (task,) = hook.ask("overview", pathspec=run, step="start")["steps"][0]["tasks"]
    card.unlink()
    os.mkfifo(card)
    question = {"pathspec": task["pathspec"], "hash": card.stem.split("-")[-1], "max_bytes": 1000}
    assert not hook.ask("card", seconds=10, **question)["exists"]


@pytest.mark.parametrize("pathspec", ["CardsFlow/../CardsFlow", "../x", "CardsFlow/.", "CardsFlow/*", "a/b/c/d/e", ""])
def test_a_pathspec_leads_nowhere_but_into_a_run(hook: MetaflowHook, pathspec: str) -> None:
    with pytest.raises(MetaflowQueryError, match="is not of the form"):
        hook.ask("artifact", pathspec=pathspec, name="x", max_bytes=9)


def test_the_size_of_a_card_is_looked_at_before_it_is_loaded(hook: MetaflowHook, run: str, sysroot: Path) -> None:
    (card,) = (sysroot / ".metaflow" / "mf.cards").rglob("*.html")
    (task,) = hook.ask("overview", pathspec=run, step="start")["steps"][0]["tasks"]
    with card.open("wb") as file:
        file.truncate(10**12)  # a file with a hole, which no machine could load
    question = {"pathspec": task["pathspec"], "hash": card.stem.split("-")[-1], "max_bytes": 1000}
    with pytest.raises(MetaflowQueryError, match="1000000000000 bytes large; the limit is 1000"):
        hook.ask("card", seconds=10, **question)


def test_the_processes_that_talk_to_metaflow_know_none_of_airflows_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("METAFLOW_AIRFLOW_PASSWORD", "canary-password")
    monkeypatch.setenv("METAFLOW_SERVICE_URL", "http://service")
    for environment in (reading_environment({}), starting_environment({})):
        assert not {name for name, value in environment.items() if "canary" in value and "PASSWORD" not in name}
        assert environment["METAFLOW_SERVICE_URL"] == "http://service"
        assert environment["PATH"] == os.environ["PATH"]
    # Only what starts runs logs in to an Airflow.
    assert "METAFLOW_AIRFLOW_PASSWORD" not in reading_environment({"METAFLOW_AIRFLOW_USERNAME": "x"})
    assert starting_environment({})["METAFLOW_AIRFLOW_PASSWORD"] == "canary-password"


def test_a_running_reader_process_has_that_environment(
    run: str, sysroot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    pool = ReaderPool()
    try:
        question = {"op": "run", "pathspec": run}
        environment = reading_environment({"METAFLOW_DATASTORE_SYSROOT_LOCAL": str(sysroot)})
        assert pool.ask(sys.executable, environment, question, 60)["finished"]
        (process,) = pool._processes.values()
        seen = Path(f"/proc/{process._process.pid}/environ").read_text()
        assert "METAFLOW_DATASTORE_SYSROOT_LOCAL" in seen
        assert "canary" not in seen
    finally:
        pool.close()


def test_the_process_that_reads_refuses_a_pickle_even_where_metaflow_would_load_it(tmp_path: Path) -> None:
    folder, written = Path(reading.__file__ or "").parent, tmp_path / "written"
    (tmp_path / "payload").write_bytes(pickle.dumps(Payload(written)))
    script = (
        f"import pickle, sys; sys.path.insert(0, {str(folder)!r}); import process\n"
        "if sys.argv[1] == 'guarded': process.refuse_pickles()\n"
        f"pickle.load(open({str(tmp_path / 'payload')!r}, 'rb'))"
    )
    plain = subprocess.run([sys.executable, "-c", script, "plain"], capture_output=True, text=True)
    assert plain.returncode == 0, plain.stderr
    assert written.exists()
    written.unlink()
    guarded = subprocess.run([sys.executable, "-c", script, "guarded"], capture_output=True, text=True)
    assert "is not loaded by a process that reads for Airflow" in guarded.stderr
    assert not written.exists()


@pytest.fixture
def service_run(flows: Path, tmp_path: Path) -> Iterator[tuple[MetadataService, str]]:
    """A run that is registered with a metadata service."""
    with metadata_service("s3cret") as service:
        with (
            environment_variable("METAFLOW_SERVICE_URL", service.url),
            environment_variable("METAFLOW_SERVICE_AUTH_KEY", "s3cret"),
        ):
            top = ("--metadata", "service")
            yield service, run_locally(flows / "linear.py", tmp_path, "--with", "orchestrator_internal", top=top)


def test_runs_of_a_metadata_service_are_read_without_unpickling(
    service_run: tuple[MetadataService, str], tmp_path: Path
) -> None:
    service, run_id = service_run
    connection = {
        "conn_type": "metaflow",
        "host": service.url,
        "password": "s3cret",
        "extra": {"datastore_root": str(tmp_path / ".metaflow")},
    }
    written, root = tmp_path / "written", tmp_path / ".metaflow"
    for folder in (root / "LinearFlow" / run_id).glob("*/*/"):
        poison(root, str(folder.relative_to(root)), written)
    with environment_variable("AIRFLOW_CONN_SERVICE", json.dumps(connection)):
        hook = MetaflowHook("service")
        assert hook.ask("run", pathspec=f"LinearFlow/{run_id}")["finished"]
        artifact = hook.ask("artifact", pathspec=f"LinearFlow/{run_id}", name="trace", max_bytes=1000)
        assert artifact["value"] == ["start", "middle", "end"]
        assert hook.ask("overview", pathspec=f"LinearFlow/{run_id}")["complete"]
    assert not written.exists()


@pytest.fixture
def stored_run(flows: Path, tmp_path: Path) -> Iterator[tuple[ObjectStore, str]]:
    """A run with a card whose artifacts are in S3, and its pathspec; the environment says how to reach S3."""
    with object_store("127.0.0.1", tmp_path / "s3.log") as store, pytest.MonkeyPatch.context() as patch:
        for name in ("METAFLOW_DATASTORE_SYSROOT_S3", "METAFLOW_S3_ENDPOINT_URL"):
            patch.setenv(name, store.environment[name])
        # The metadata is local.
        patch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(tmp_path))
        flow = Path(shutil.copy(flows / "cards.py", tmp_path))
        top = ("--datastore", "s3")
        yield store, "CardsFlow/" + run_locally(flow, tmp_path, "--with", "orchestrator_internal", top=top)


def test_a_run_on_s3_is_read_by_the_process_that_was_ready_before_without_airflows_secrets(
    stored_run: tuple[ObjectStore, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, pathspec = stored_run
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("METAFLOW_DEFAULT_DATASTORE", "s3")
    hook = MetaflowHook()
    hook.get_conn = dict  # type: ignore[method-assign]
    assert hook.prepare()
    (ready,) = POOL._processes.values()
    assert "canary" not in Path(f"/proc/{ready._process.pid}/environ").read_text()
    assert b"--idle\x000\x00" in Path(f"/proc/{ready._process.pid}/cmdline").read_bytes()

    source = {"metadata": "local", "datastore": "s3", "root": store.root}
    found = hook.ask("overview", pathspec=pathspec, source=source, stays=True)
    assert list(POOL._processes.values()) == [ready]
    (start,) = [one for one in found["steps"] if one["step"] == "start"]
    (task,) = start["tasks"]
    assert task["successful"]
    assert task["artifacts"]
    (card,) = task["cards"]
    question = {"pathspec": task["pathspec"], "hash": card["hash"], "source": source, "stays": True}
    assert "<html" in hook.ask("card", max_bytes=10**7, **question)["html"].lower()
    with pytest.raises(MetaflowQueryError, match="the limit is 10"):
        hook.ask("card", max_bytes=10, **question)
    # Another root of the same bucket needs no further process, and has no such run's data.
    elsewhere = {**source, "root": f"s3://{BUCKET}/elsewhere"}
    (task,) = hook.ask("overview", pathspec=pathspec, source=elsewhere, step="start", stays=True)["steps"][0]["tasks"]
    assert (task["artifacts"], task["cards"]) == ([], [])
    assert list(POOL._processes.values()) == [ready]


def test_an_api_server_with_a_local_datastore_keeps_no_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("METAFLOW_DEFAULT_DATASTORE", "METAFLOW_DEFAULT_METADATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("METAFLOW_HOME", str(tmp_path))
    hook = MetaflowHook()
    hook.get_conn = dict  # type: ignore[method-assign]
    assert not hook.prepare()
    assert not POOL._processes


def test_no_more_than_one_process_is_kept_that_has_nothing_to_do(tmp_path: Path) -> None:
    pool = ReaderPool()
    try:
        for number in range(3):
            environment = reading_environment({"METAFLOW_USER": f"user{number}"})
            pool.ask(sys.executable, environment, {"op": "ping"}, 60, stays=True)
        kept = [one for one in pool._processes.values() if not one.is_gone]
        assert len(kept) == 1
        assert b"user2" in Path(f"/proc/{kept[0]._process.pid}/environ").read_bytes()
    finally:
        pool.close()
