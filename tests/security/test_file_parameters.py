"""Promise: nobody who may only start runs reads a file of a worker, or an object that is not theirs, by a parameter."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from tests.conftest import FLOWS

from airflow_provider_metaflow.compute.local.processes import LocalCompute
from airflow_provider_metaflow.plan.parameters import command_line_values
from metaflow_adapters.documents import step_document
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.parameters import parameter_value
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task import file_parameters, placed_parameters
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task.file_parameters import RefusedFileError
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.documents.task import Inherited
from metaflow_orchestration.exceptions import ParameterValueError
from metaflow_orchestration.graph.model import ParameterType
from metaflow_orchestration.run.commands import StepCall, init_request, parameters_path

FACTS = {"default": '{"type": "uploader-v2", "url": "s3://elsewhere/default"}', "is_text": True, "encoding": "utf-8"}
SHA = "0" * 40


@pytest.fixture
def storage(tmp_path: Path) -> Any:
    from metaflow.plugins.datastores.local_storage import LocalStorage

    (tmp_path / "store").mkdir()
    return LocalStorage(str(tmp_path / "store"))


def descriptor(storage: Any, path: str = f"data/Flow/{SHA}", **changed: Any) -> str:
    url = f"local://{storage.datastore_root}/{path}"
    return json.dumps({"type": "uploader-v2", "sub-type": "uploaded", "url": url, "size": 1, **changed})


def content_of(text: str) -> Any:
    """Read a descriptor as Metaflow does."""
    from metaflow.includefile import IncludedFile

    return IncludedFile(json.loads(text)).decode("notes")


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd", "/proc/self/environ", "~/.aws/credentials", "~", "/", "./airflow.cfg", "../airflow.cfg",
        "airflow.cfg", "conf/airflow.cfg", "s3://bucket/key", "local:///etc/passwd", "file:///etc/passwd",
        "/a path/with spaces.txt", "C:\\secrets.txt", "..\\up", "a/b/../c",
    ],
)  # fmt: skip
def test_a_path_is_refused_by_one_error_that_names_flow_parameter_and_fix(storage: Any, path: str) -> None:
    with pytest.raises(RefusedFileError) as refused:
        file_parameters.file_value("Flow", "notes", path, FACTS, storage)
    assert "flow Flow: the file parameter 'notes' was given a path" in str(refused.value)
    assert "--notes FILE" in str(refused.value)


@pytest.mark.parametrize(
    "changed",
    [
        {"url": "s3://other/data/Flow/" + SHA},
        {"url": "local:///etc/passwd"},
        {"url": "/etc/passwd"},
        {"url": None},
        {"url": ["local://x"]},
        {"type": "external"},
        {"type": "uploader-v1"},
        {"sub-type": "external"},
        {"size": "1"},
    ],
)
def test_a_descriptor_of_anything_else_is_refused(storage: Any, changed: dict[str, Any]) -> None:
    for text in (descriptor(storage, **changed), json.dumps(descriptor(storage, **changed))):
        with pytest.raises(RefusedFileError, match="not uploaded for this flow"):
            file_parameters.file_value("Flow", "notes", text, FACTS, storage)


@pytest.mark.parametrize(
    "path",
    [
        f"data/Other/{SHA}", f"data/Flow/../Other/{SHA}", "data/Flow/../../../etc/passwd", f"data/Flow/{SHA}/x",
        f"data/Flow/x/{SHA}", f"Flow/data/00/{SHA}", "Flow/run/start/t/0.data.json", f"data/Flow/{SHA}\n",
        f"data/Flow/{'0' * 39}", f"data/Flow//{SHA}", "data/Flow/", f"data/FlowX/{SHA}",
        # As long as the folder of the flow.
        f"data/Wolf/{SHA}", f"Data/Flow/{SHA}",
    ],
)  # fmt: skip
def test_what_is_below_the_root_but_no_upload_of_the_flow_is_refused(storage: Any, path: str) -> None:
    with pytest.raises(RefusedFileError, match="not uploaded for this flow"):
        file_parameters.file_value("Flow", "notes", descriptor(storage, path), FACTS, storage)


@pytest.mark.parametrize(
    "content",
    ["", "a line\n", "/etc/passwd\n", "one two", "word", "{{ ds }} $(id) `x` \"'", "ü ☃", '{"a": 1}', "[1, 2]", "\0",
     "1.5", '{"type": "image", "url": "s3://x"}', "{", "a\n/etc/passwd"],
)  # fmt: skip
def test_content_arrives_as_it_is(storage: Any, content: str) -> None:
    found = file_parameters.file_value("Flow", "notes", content, FACTS, storage)
    assert content_of(found) == content
    # And what was uploaded once is taken as a descriptor.
    assert content_of(file_parameters.file_value("Flow", "notes", found, FACTS, storage)) == content


def test_a_file_of_bytes_and_another_encoding_arrive_as_the_flow_wants_them(storage: Any) -> None:
    of_bytes = file_parameters.file_value("Flow", "notes", "ü x", {"is_text": False}, storage)
    latin = file_parameters.file_value("Flow", "notes", "ü x", {"is_text": True, "encoding": "latin-1"}, storage)
    assert (content_of(of_bytes), content_of(latin)) == ("ü x".encode(), "ü x")
    with pytest.raises(RefusedFileError, match="its encoding ascii lacks"):
        file_parameters.file_value("Flow", "notes", "ü x", {"is_text": True, "encoding": "ascii"}, storage)


def test_the_default_of_deploy_time_is_taken_wherever_it_lies(storage: Any) -> None:
    assert file_parameters.file_value("Flow", "notes", FACTS["default"], FACTS, storage) == FACTS["default"]
    with pytest.raises(RefusedFileError):
        file_parameters.file_value("Flow", "notes", FACTS["default"], {"default": None}, storage)


def test_a_descriptor_brings_nothing_but_its_address_and_size(storage: Any) -> None:
    given = descriptor(storage, encoding="utf-7", is_text=False, other="x")
    found = json.loads(file_parameters.file_value("Flow", "notes", given, FACTS, storage))
    assert (found["encoding"], found["is_text"], "other" in found) == ("utf-8", True, False)


def test_the_command_line_uploads_what_a_user_names(storage: Any, tmp_path: Path) -> None:
    from metaflow.includefile import FilePathClass
    from metaflow.parameters import ParameterContext

    (tmp_path / "laptop.txt").write_text("from the laptop")
    context = ParameterContext("Flow", "ann", "notes", print, "local", None)
    value = FilePathClass(True, "utf-8").convert(str(tmp_path / "laptop.txt"), None, context)
    obj = SimpleNamespace(flow_datastore=SimpleNamespace(_storage_impl=storage))
    text = parameter_value(obj, value)
    assert json.loads(text)["url"].startswith(f"local://{storage.datastore_root}/data/Flow/")
    assert content_of(file_parameters.file_value("Flow", "notes", text, FACTS, storage)) == "from the laptop"


@pytest.fixture(scope="module")
def manifest(compiled: Callable[..., Manifest]) -> Manifest:
    return compiled("files/parameters")


def run_start(
    manifest: Manifest, run_id: str, notes: Any, tmp_path: Path, inherited: Inherited | None = None
) -> list[str]:
    lines: list[str] = []
    call = StepCall(
        step=manifest.graph.step("start"), run_id=run_id, task_id="t", attempt=0, max_user_retries=0,
        inputs=(parameters_path(run_id),),
    )  # fmt: skip
    given = {"required": "x"} if notes is None else {"required": "x", "notes": notes}
    compute = LocalCompute(
        manifest=manifest, code=manifest.code, cache=tmp_path, python=sys.executable, warm=False, idle_seconds=0.0,
        links={}, variables={}, on_line=lambda _, text: lines.append(text),
        inherited=inherited, resumed=inherited is not None,
    )  # fmt: skip
    with compute:
        compute.run(call, command_line_values(manifest.graph, given))
    return lines


def test_a_run_of_airflow_gets_content_or_default_and_never_a_file_of_the_worker(
    manifest: Manifest, tmp_path: Path
) -> None:
    from metaflow.datastore import FlowDataStore
    from metaflow.plugins.datastores.local_storage import LocalStorage

    store = FlowDataStore("ParametersFlow", None, storage_impl=LocalStorage, ds_root=manifest.command.datastore_root)
    default = (FLOWS / "files" / "notes.txt").read_text()
    for run_id, notes, seen in (("r-text", "given\n", "given\n"), ("r-default", None, default)):
        run_start(manifest, run_id, notes, tmp_path)
        assert store.get_task_datastore(run_id, "start", "t")["seen"]["notes"] == seen
    secret = tmp_path / "secret.txt"
    secret.write_text("the key of the API server")
    external = json.dumps({"type": "external", "url": f"local://{secret}"})
    for number, notes in enumerate((str(secret), external, json.loads(external))):
        with pytest.raises(ParameterValueError, match="flow ParametersFlow: the file parameter 'notes'"):
            run_start(manifest, f"r-refused-{number}", notes, tmp_path)
    # A resumed run takes files under the same rules, whatever it was given or not.
    for number, given in enumerate(((), ("notes",))):
        with pytest.raises(ParameterValueError, match="flow ParametersFlow: the file parameter 'notes'"):
            run_start(manifest, f"r-again-{number}", str(secret), tmp_path, Inherited(run="r-text", given=given))
    run_start(manifest, "r-resumed", None, tmp_path, Inherited(run="r-text"))
    assert store.get_task_datastore("r-resumed", "start", "t")["seen"]["notes"] == "given\n"


def test_containers_of_every_orchestrator_check_files_before_metaflow_sees_them(
    manifest: Manifest, storage: Any
) -> None:
    step = manifest.graph.step("start")
    document = {
        **step_document(manifest, step, environment={}, outputs={}, retries=0),
        "top_level": [],
    }
    # Argo Workflows and Step Functions.
    init = placed_parameters.init_command(document, "argo-x", [{"name": "notes", "value": "/proc/self/environ"}])
    with pytest.raises(RefusedFileError):
        file_parameters.checked_arguments(init, "ParametersFlow", storage)
    # Pods and jobs that Airflow starts.
    init = msgspec.to_builtins(init_request(manifest, "airflow-x", {"notes": "/proc/self/environ", "text": "/a/path"}))
    with pytest.raises(RefusedFileError):
        file_parameters.checked_arguments(init, "ParametersFlow", storage)
    init = msgspec.to_builtins(init_request(manifest, "airflow-x", {"notes": "fine", "text": "/a/path"}))
    arguments = file_parameters.checked_arguments(init, "ParametersFlow", storage)
    assert "--text=/a/path" in arguments
    (notes,) = [one.removeprefix("--notes=") for one in arguments if one.startswith("--notes=")]
    assert content_of(notes) == "fine"


def test_every_file_parameter_of_a_flow_is_checked(manifest: Manifest) -> None:
    files = [one.name for one in manifest.graph.parameters if one.type is ParameterType.FILE]
    assert files == ["notes"]
    assert list(init_request(manifest, "r", {}).files) == files
    graph = msgspec.structs.replace(manifest.graph, parameters=())
    assert "files" not in msgspec.to_builtins(init_request(msgspec.structs.replace(manifest, graph=graph), "r", {}))


def test_nothing_of_a_file_stands_in_a_log_line_of_a_refusal(storage: Any) -> None:
    secret = base64.b64encode(b"x" * 60).decode()
    with pytest.raises(RefusedFileError) as refused:
        file_parameters.file_value("Flow", "notes", descriptor(storage, url=f"s3://x/{secret}"), FACTS, storage)
    assert secret not in str(refused.value)
