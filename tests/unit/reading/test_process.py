"""The process that reads for Airflow: what it answers, and what it asks Metaflow's interfaces for."""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import metaflow
import pytest
from metaflow.exception import MetaflowException, MetaflowNotFound
from metaflow.plugins import DATASTORES


@pytest.fixture
def process() -> ModuleType:
    """The script, as a module of this process; it finds the modules beside it."""
    return importlib.import_module("airflow_provider_metaflow.reading.process")


def lazy(answer: Any) -> Any:
    """A reader that gives an answer, or raises it."""

    def reply(question: dict[str, Any]) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return SimpleNamespace(get=lambda *_: SimpleNamespace(answer=reply))


@pytest.mark.parametrize(
    ("outcome", "answer"),
    [
        ({"exists": True}, {"exists": True}),
        (MetaflowNotFound("no such run"), {"exists": False, "message": "no such run"}),
        (MetaflowException("the service is busy"), {"error": "Flow failed: the service is busy", "transient": True}),
        (ConnectionError("refused"), {"error": "ConnectionError: refused", "transient": True}),
        (KeyError("x"), {"error": "KeyError: 'x'", "transient": False}),
    ],
)
def test_whatever_happens_is_an_answer_that_says_whether_asking_again_helps(
    process: ModuleType, outcome: Any, answer: dict[str, Any]
) -> None:
    assert process._answer(lazy(outcome), {"op": "run", "pathspec": "F/1"}) == answer


def test_a_setting_that_is_wrong_is_an_answer_that_stays(process: ModuleType) -> None:
    error = process.CannotAnswerError("the root is not known")
    assert process._answer(lazy(error), {"op": "run"}) == {"error": "the root is not known", "transient": False}


def served(process: ModuleType, monkeypatch: pytest.MonkeyPatch, *requests: dict[str, Any]) -> dict[int, Any]:
    """Send requests to its standard input, and return the answers from its standard output by their ids."""

    class EndedError(Exception):
        pass

    def end(status: int) -> None:
        raise EndedError(status)

    kept = [os.dup(number) for number in (0, 1)]
    (its_input, ours), (theirs, its_output) = os.pipe(), os.pipe()
    monkeypatch.setattr(process.os, "_exit", end)
    monkeypatch.setattr(sys, "argv", ["process.py", "--idle", "20"])
    os.write(ours, b"".join(json.dumps(one).encode() + b"\n" for one in requests))
    os.close(ours)
    try:
        os.dup2(its_input, 0)
        os.dup2(its_output, 1)
        with pytest.raises(EndedError):
            process.main()
    finally:
        for number, one in enumerate(kept):
            os.dup2(one, number)
            os.close(one)
        for one in (its_input, its_output):
            os.close(one)
    answers: dict[int, Any] = {}
    # Its threads may still be at work, and hold the pipe's other end.
    with os.fdopen(theirs) as lines:
        for _ in requests:
            line = json.loads(lines.readline())
            answers[line["id"]] = line["answer"]
    return answers


def test_requests_are_answered_by_their_ids_and_triggers_in_the_main_thread(
    process: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    threads = {}

    def answer_of(reader: Any, question: dict[str, Any]) -> dict[str, Any]:
        threads[question["op"]] = threading.current_thread() is threading.main_thread()
        return {"of": question["op"]}

    monkeypatch.setattr(process, "_answer_of", answer_of)
    asked = [{"id": number, "question": {"op": op}} for number, op in enumerate(("trigger", "run"))]
    assert served(process, monkeypatch, *asked) == {0: {"of": "trigger"}, 1: {"of": "run"}}
    assert threads == {"trigger": True, "run": False}


def test_an_interpreter_without_metaflow_says_so_to_every_question(
    process: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "metaflow", None)
    (answer,) = served(process, monkeypatch, {"id": 7, "question": {"op": "ping"}}).values()
    assert answer["error"].startswith(f"{sys.executable} cannot import Metaflow")
    assert answer["transient"] is False


def test_lines_end_when_none_has_come_for_a_while(process: ModuleType) -> None:
    kept, (its_input, ours) = os.dup(0), os.pipe()
    os.write(ours, b"one\ntwo\nhalf a li")
    try:
        os.dup2(its_input, 0)
        assert list(process._lines(0.05)) == [b"one", b"two"]
    finally:
        os.dup2(kept, 0)
        for one in (kept, ours, its_input):
            os.close(one)


def test_no_pickle_may_name_a_class_before_anything_is_read(
    process: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks: list[Any] = []
    monkeypatch.setattr(process.sys, "addaudithook", hooks.append)
    reader = process._Lazy()
    assert hooks == []
    first = reader.get({"root": "/a"})
    assert first is reader.get({"root": "/a"})
    assert first is not reader.get({"root": "/b"})
    (check,) = hooks
    check("open", ("file",))
    with pytest.raises(RuntimeError, match=r"os\.system of a pickle is not loaded"):
        check("pickle.find_class", ("os", "system"))


class Provider:
    """A metadata provider whose objects are not in their order."""

    TYPE = "service"
    INFO = "http://y"
    asked: list[Any] = []

    @classmethod
    def get_object(cls, kind: str, sub: str, *given: Any) -> Any:
        cls.asked.append((kind, sub, *given))
        return {
            "self": {"run_number": 1},
            "step": [{"step_name": "end", "ts_epoch": 2}, {"step_name": "start", "ts_epoch": 1}],
            "task": [{"task_id": 2, "ts_epoch": 9}, {"task_id": 1, "task_name": "t", "ts_epoch": 3}],
            "metadata": [
                {"field_name": "attempt-done", "value": "0", "ts_epoch": 5, "tags": ["attempt_id:0"]},
                {"field_name": "attempt", "value": "0", "ts_epoch": 4},
                {"field_name": "secret", "value": "x"},
            ],
        }[sub]

    @staticmethod
    def _version(monitor: Any) -> str:
        return "2.4"


def test_what_a_service_lists_is_put_in_the_order_of_time(process: ModuleType) -> None:
    index = process.ProviderIndex(Provider)
    Provider.asked.clear()
    assert index.run("F", "1") == {"run_number": 1}
    assert index.steps("F", "1") == ["start", "end"]
    assert index.tasks("F", "1", "start") == ["t", "2"]
    assert [(one.field, one.value, one.attempt) for one in index.metadata("F", "1", "start", "t")] == [
        ("attempt", "0", None), ("attempt-done", "0", 0),
    ]  # fmt: skip
    assert Provider.asked[-1] == ("task", "metadata", None, None, "F", "1", "start", "t")


@pytest.fixture
def store(process: ModuleType, tmp_path: Path) -> Any:
    """A store over one of Metaflow's own, whose objects are files here."""
    storage = next(one for one in DATASTORES if one.TYPE == "local")
    (tmp_path / "F/1").mkdir(parents=True)
    (tmp_path / "F/1/a.json").write_text('{"a": "é"}')
    (tmp_path / "F/1/broken.json").write_text("{")
    (tmp_path / "F/1/folder").mkdir()
    return process.RemoteStore(storage(str(tmp_path)))


def test_a_store_reads_documents_and_names_no_folders(store: Any) -> None:
    assert store.document(["F", "1", "a.json"], 100) == {"a": "é"}
    assert store.document(["F", "1", "broken.json"], 100) is None
    assert store.names(["F", "1"]) == ["a.json", "broken.json"]


def test_what_is_not_there_is_none(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store._storage, "size_file", lambda _: None)
    assert store.text(["F", "1", "absent"], 100) is None
    assert store.document(["F", "1", "absent"], 100) is None


def test_what_is_too_large_is_not_loaded(process: ModuleType, store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store._storage, "load_bytes", lambda _: pytest.fail("it was loaded"))
    with pytest.raises(process.TooLargeError):
        store.text(["F", "1", "a.json"], 3)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets where the metadata are."""
    monkeypatch.setattr("metaflow.plugins.METADATA_PROVIDERS", [Provider, SimpleNamespace(TYPE="local")])
    return lambda where: monkeypatch.setattr(metaflow, "get_metadata", lambda: where)


def test_a_ping_asks_the_service_or_looks_for_the_folder(process: ModuleType, at: Any, tmp_path: Path) -> None:
    at("service@http://x")
    assert process._answer(None, {"op": "ping"}) == {"message": "metadata service 2.4 at http://x"}
    at(f"local@{tmp_path}")
    assert process._answer(None, {"op": "ping"}) == {"message": f"local metadata in {tmp_path}"}
    at(f"local@{tmp_path}/absent")
    answer = process._answer(None, {"op": "ping"})
    assert answer == {"error": f"there is no local datastore at {tmp_path}/absent", "transient": False}


def test_metadata_and_artifacts_come_from_where_the_settings_say(
    process: ModuleType, at: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Storage(SimpleNamespace):
        TYPE = "azure"
        root: str | None = "container/root"

        def __init__(self, root: str) -> None:
            super().__init__(at=root)

        @classmethod
        def get_datastore_root_from_config(cls, echo: Any, create_on_absent: bool) -> str | None:
            assert create_on_absent is False
            return cls.root

    at("service@http://x")
    index, store = process._sources({})
    assert isinstance(index, process.ProviderIndex)
    assert isinstance(store, process.LocalFiles)
    monkeypatch.setattr("metaflow.plugins.DATASTORES", [Storage])
    monkeypatch.setattr("metaflow.metaflow_config.DEFAULT_DATASTORE", "azure")
    at(f"local@{tmp_path}")
    index, store = process._sources({})
    assert isinstance(index, process.LocalFiles)
    assert (type(store), store._storage.at) == (process.RemoteStore, "container/root")
    # What the run itself says comes before the settings.
    index, store = process._sources({"metadata": "service", "datastore": "azure", "root": "other/root"})
    assert (type(index), store._storage.at) == (process.ProviderIndex, "other/root")
    for source in ({"metadata": "unknown"}, {"datastore": "unknown"}):
        with pytest.raises(process.CannotAnswerError, match="of the type unknown"):
            process._sources(source)
    monkeypatch.setattr(Storage, "root", None)
    with pytest.raises(process.CannotAnswerError, match="root of the datastore azure is not known"):
        process._sources({})


def test_a_local_datastore_of_no_folder_is_an_error_that_names_the_setting(
    process: ModuleType, at: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metaflow.metaflow_config.DEFAULT_DATASTORE", "local")
    monkeypatch.setattr("metaflow.plugins.datastores.local_storage.LocalStorage.SYSROOT_VAR", None)
    monkeypatch.setattr(
        "metaflow.plugins.datastores.local_storage.LocalStorage.DATASTORE_DIR", ".metaflow-that-nobody-has"
    )
    monkeypatch.chdir(tmp_path)
    at(f"local@{tmp_path}")
    with pytest.raises(process.CannotAnswerError, match=r"METAFLOW_DATASTORE_SYSROOT_LOCAL is not set.*datastore_root"):
        process._sources({})
    # What the run itself says comes before the settings.
    assert process._sources({"metadata": "local", "datastore": "local", "root": str(tmp_path)})
    # A run is known to the service, wherever its artifacts are.
    at("service@http://x")
    assert process._sources({})
    assert list(tmp_path.iterdir()) == []


class Triggered:
    """A run of a deployed flow."""

    pathspec = "F/sfn-1"
    status: str | None = "running"
    ended: list[str] = []

    def terminate(self) -> bool:
        self.ended.append(self.pathspec)
        return True


def test_deployed_flows_are_started_asked_and_ended_by_metaflows_own_interface(
    process: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[Any] = []

    class Deployed:
        @classmethod
        def from_deployment(cls, name: str, impl: str) -> Any:
            called.append((name, impl))
            return SimpleNamespace(trigger=lambda **given: called.append(given) or Triggered())

        @classmethod
        def get_triggered_run(cls, name: str, run_id: str, impl: str) -> Any:
            called.append((name, run_id, impl))
            return Triggered()

    monkeypatch.setattr(metaflow, "DeployedFlow", Deployed, raising=False)
    monkeypatch.setattr(metaflow, "namespace", called.append)
    where = {"deployment": "f", "impl": "sfn", "namespace": "user:ann"}
    asked = {**where, "op": "trigger", "parameters": {"a": 1}}
    assert process._answer(None, asked) == {"pathspec": "F/sfn-1"}
    assert called == ["user:ann", ("f", "sfn"), {"a": 1}]
    asked = {**where, "op": "status", "pathspec": "F/sfn-1"}
    for status, finished, successful in (
        ("running", False, False), ("PENDING", False, False), ("succeeded", True, True), ("FAILED", True, False),
    ):  # fmt: skip
        monkeypatch.setattr(Triggered, "status", status)
        assert process._answer(None, asked) == {
            "exists": True, "finished": finished, "successful": successful, "status": status.upper(),
        }  # fmt: skip
    monkeypatch.setattr(Triggered, "status", None)
    assert process._answer(None, asked)["exists"] is False
    assert called[-1] == ("f", "sfn-1", "sfn")
    assert process._answer(None, {**asked, "op": "terminate"}) == {"terminated": True}
    assert Triggered.ended == ["F/sfn-1"]
