"""The container command, run as a process of this machine against a real S3 API."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from tests.support.object_store import ObjectStore
from tests.support.results import artifacts

from metaflow_orchestration.compile.compiler import CompileOptions, load_manifest
from metaflow_orchestration.compile.reading.container_settings import bootstrap_script
from metaflow_orchestration.containers.command import (
    MAX_INLINE_BYTES,
    TASK_VARIABLE,
    container_command,
    encode_document,
    first_environment,
    task_document,
)
from metaflow_orchestration.documents.container_settings import ContainerSetup, RemoteSettings, remote_settings
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.run.commands import StepCall

pytestmark = pytest.mark.subprocess


@pytest.fixture(scope="module")
def manifest(store: ObjectStore, flows: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    options = CompileOptions(python=sys.executable, top_level=("--with", "kubernetes"))
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in store.environment.items():
            patch.setenv(name, value)
        patch.setenv("METAFLOW_KUBERNETES_SECRETS", "one,two")
        patch.setenv("METAFLOW_AIRFLOW_KUBERNETES_CONN_ID", "cluster")
        return load_manifest(flows / "foreach.py", options, cache)


def call_of(manifest: Manifest, step: str, task_id: str = "t", **more: Any) -> StepCall:
    inputs = ("r1/_parameters/t-params",) if step == "start" else ("r1/start/t",)
    return StepCall(
        step=manifest.graph.step(step), run_id="r1", task_id=task_id, attempt=0, max_user_retries=0, inputs=inputs,
        **more,
    )  # fmt: skip


def run_container(
    manifest: Manifest, store: ObjectStore, folder: Path, task: str, **more: str
) -> subprocess.CompletedProcess[str]:
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("METAFLOW_", "AIRFLOW", "PYTHON"))},
        **{k: v for k, v in store.environment.items() if k.startswith("AWS")},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        **first_environment(manifest, manifest.code),
        "METAFLOW_ORCHESTRATOR_SINK": str(folder / "sink"),
        TASK_VARIABLE: task,
        **more,
    }
    return subprocess.run(
        container_command(manifest, manifest.code, "start"), cwd=folder, env=environment, capture_output=True, text=True
    )


def never(_: bytes) -> str:
    raise AssertionError("a small document needs no storage")


@pytest.mark.extended
def test_a_task_runs_in_one_interpreter_and_tells_its_outcome_and_its_log(
    manifest: Manifest, store: ObjectStore, tmp_path: Path
) -> None:
    call = call_of(manifest, "start")
    document = task_document(
        manifest, manifest.code, [call], environment=remote_settings(manifest).environment, parameters={}
    )
    result = run_container(manifest, store, tmp_path, encode_document(document, never))
    assert result.returncode == 0, result.stdout + result.stderr
    outcome = json.loads((tmp_path / "sink").read_text())
    assert outcome["task_id"] == "t"
    assert (outcome["next"], outcome["num_splits"]) == (["upper"], 3)
    found = artifacts(store.root, "ForeachFlow", "r1", environment=store.environment)
    assert ((), ()) in found["start"]
    # The wide body goes on from there; the document of an array says which of its tasks a container runs.
    body = [call_of(manifest, "upper", f"t-{n}", split_index=n) for n in range(3)]
    array = task_document(manifest, manifest.code, body, environment=remote_settings(manifest).environment)
    (tmp_path / "body").mkdir()
    second = run_container(
        manifest, store, tmp_path / "body", encode_document(array, never), AWS_BATCH_JOB_ARRAY_INDEX="2"
    )
    assert second.returncode == 0, second.stdout + second.stderr
    assert json.loads((tmp_path / "body" / "sink").read_text())["task_id"] == "t-2"
    found = artifacts(store.root, "ForeachFlow", "r1", environment=store.environment)
    assert list(found["upper"]) == [((2,), ())]


def test_a_task_that_fails_says_how_with_its_own_exit_code(
    manifest: Manifest, store: ObjectStore, tmp_path: Path
) -> None:
    call = replace(call_of(manifest, "upper"), inputs=("r1/none/t",))
    document = task_document(manifest, manifest.code, [call], environment=remote_settings(manifest).environment)
    result = run_container(manifest, store, tmp_path, encode_document(document, never))
    assert result.returncode == 1
    told = json.loads((tmp_path / "sink").read_text())
    assert (told["failed"], told["status"]) == ("step", 1)
    assert told["last_lines"]


def test_a_package_that_cannot_be_fetched_is_told_in_one_line(
    manifest: Manifest, store: ObjectStore, tmp_path: Path
) -> None:
    gone = replace(manifest, code=replace(manifest.code, url="s3://flows/none"))
    result = run_container(gone, store, tmp_path, "x")
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].startswith("s3://flows/none cannot be fetched: ")
    assert "Traceback" not in result.stderr


def test_a_long_document_goes_by_reference(manifest: Manifest) -> None:
    import random

    letters = random.Random(1)
    paths = tuple(f"r1/start/t-{letters.randrange(10**12)}" for _ in range(1000))
    call = replace(call_of(manifest, "upper"), inputs=paths)
    saved: list[bytes] = []

    def save(data: bytes) -> str:
        saved.append(data)
        return "s3://b/doc"

    document = task_document(manifest, manifest.code, [call], environment={})
    assert encode_document(document, save) == "@s3://b/doc"
    assert json.loads(zlib.decompress(saved[0])) == json.loads(msgspec.json.encode(document))


def test_a_document_of_a_plain_task_fits_inline_whole(manifest: Manifest) -> None:
    call = call_of(manifest, "start")
    environment = remote_settings(manifest).environment
    document = task_document(
        manifest, manifest.code, [call], environment=environment, parameters={"a": "$(x) `y` {{z}}"}
    )
    text = encode_document(document, never)
    assert len(text) < MAX_INLINE_BYTES
    assert json.loads(zlib.decompress(base64.b64decode(text))) == json.loads(msgspec.json.encode(document))


def test_the_manifest_holds_what_containers_need_and_no_secret(manifest: Manifest, store: ObjectStore) -> None:
    settings = remote_settings(manifest)
    assert settings.environment["METAFLOW_S3_ENDPOINT_URL"] == store.url
    assert "METAFLOW_DATASTORE_SYSROOT_LOCAL" not in settings.environment
    assert settings.pod_secrets == ("one", "two")
    assert settings.pod_arguments["kubernetes_conn_id"] == "cluster"
    assert set(settings.compute_defaults) == {"kubernetes", "batch"}
    from metaflow_orchestration.documents.manifest import encode_manifest

    assert b"test-secret" not in encode_manifest(manifest)


def test_metaflows_own_environments_keep_their_bootstrap_and_take_the_code_of_the_run(manifest: Manifest) -> None:
    old, new = manifest.code, replace(manifest.code, sha="f" * 40)
    setup = ContainerSetup(executable="$MF/python", bootstrap=f"fetch {old.sha[:2]}/{old.sha} && unpack")
    conda = replace(manifest, remote=msgspec.to_builtins(RemoteSettings(containers={"start": setup})))
    command = container_command(conda, new, "start")
    assert command[:2] == ["bash", "-c"]
    assert command[2] == f'fetch ff/{"f" * 40} && unpack && exec $MF/python -c "$0"'


def test_a_container_that_metaflows_own_commands_set_up_runs_its_task(
    manifest: Manifest, store: ObjectStore, tmp_path: Path
) -> None:
    from metaflow.metaflow_environment import MetaflowEnvironment

    code = manifest.code
    package = MetaflowEnvironment(None).get_package_commands(code.url, code.datastore, code.metadata)
    script = bootstrap_script(package, ["echo 'set up'", "flush_mflogs", "export COLOUR=blue"])
    setup = ContainerSetup(executable="python -s", bootstrap=script)
    prepared = replace(manifest, remote={**manifest.remote, "containers": {"start": msgspec.to_builtins(setup)}})
    call = replace(call_of(manifest, "start"), run_id="r2", inputs=("r2/_parameters/t-params",))
    document = task_document(prepared, code, [call], environment=remote_settings(prepared).environment, parameters={})
    result = run_container(
        prepared, store, tmp_path, encode_document(document, never), METAFLOW_SKIP_INSTALL_DEPENDENCIES="1"
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "set up" in result.stdout
    assert json.loads((tmp_path / "sink").read_text())["num_splits"] == 3


def test_an_init_script_runs_before_everything_else(manifest: Manifest) -> None:
    remote = {"environment": {"METAFLOW_INIT_SCRIPT": "export A=1"}}
    words = container_command(replace(manifest, remote=remote), manifest.code, "start")
    assert words[:3] == ["bash", "-c", 'eval "${METAFLOW_INIT_SCRIPT}" && exec "$@"']
