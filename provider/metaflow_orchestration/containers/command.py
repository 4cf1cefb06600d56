"""What a container gets to run a Metaflow task: one command for all, and one document that says which task.

The command fetches the code package and goes on with ``container_task.py`` from it, in the same interpreter. Metaflow's
own container command starts Python for each of these steps.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from metaflow_orchestration.documents.container_settings import remote_settings
from metaflow_orchestration.documents.manifest import CodePackage, Manifest
from metaflow_orchestration.documents.task import Inherited, TaskArguments, TaskDocument
from metaflow_orchestration.run.commands import (
    StepCall,
    init_request,
    join_paths,
    own_arguments,
    shared_arguments,
)

from .pins import PINS

TASK_VARIABLE = "METAFLOW_ORCHESTRATOR_TASK"
FLOW_VARIABLE = "METAFLOW_ORCHESTRATOR_FLOW"
"""A second document, with what all steps of a flow share; for orchestrators that can say that once."""

MAX_INLINE_BYTES = 3000
"""Longer documents go by reference, so that all overrides of an AWS Batch job stay below its 8,192 bytes."""

Save = Callable[[bytes], str]
"""Puts bytes into the flow's datastore and returns their URL."""

_RUNNER = "metaflow_extensions/airflow_provider_metaflow/plugins/orchestrator/task"

_FETCH = """
def fetch(url):
    bucket, key = url.split("://", 1)[-1].split("/", 1)
    kind = env["METAFLOW_CODE_DS"]
    if kind == "s3":
        import boto3
        end = env.get("METAFLOW_S3_ENDPOINT_URL")
        client = boto3.client("s3", **({"endpoint_url": end} if end else {}))
        return client.get_object(Bucket=bucket, Key=key)["Body"].read()
    if kind == "azure":
        from azure.identity import DefaultAzureCredential
        from azure.storage.blob import BlobClient
        end = env["METAFLOW_AZURE_STORAGE_BLOB_SERVICE_ENDPOINT"]
        return BlobClient(end, bucket, key, credential=DefaultAzureCredential()).download_blob().readall()
    from google.cloud import storage
    return storage.Client().bucket(bucket).blob(key).download_as_bytes()
def patiently(url):
    for pause in (1, 2, 5, 10, 15, None):
        try:
            return fetch(url)
        except Exception as error:
            if pause is None or type(error).__name__ in ("NoSuchKey", "NotFound", "ResourceNotFoundError"):
                sys.exit("%s cannot be fetched: %s" % (url, error))
            print("%s cannot be fetched yet: %s" % (url, error), file=sys.stderr, flush=True)
            time.sleep(pause)
def verified(url, sha):
    data = patiently(url)
    found = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    if found != sha:
        sys.exit("%s is not what was deployed: its SHA-1 is %s, not %s. None of it was run." % (url, found, sha))
    return data
""".strip()

_RUN = f"""
task = {{}}
for name in ("{FLOW_VARIABLE}", "{TASK_VARIABLE}"):
    text = env.pop(name, "")
    if text:
        # The datastore names its content by the hash.
        data = verified(text[1:], text.rpartition("/")[2]) if text.startswith("@") else base64.b64decode(text)
        task.update(json.loads(zlib.decompress(data)))
code = os.path.join(env["METAFLOW_EXTRACTED_ROOT"], ".mf_code")
sys.path[:1] = [os.path.join(code, "{_RUNNER}"), code]
import container_task
del sys.path[0]
sys.exit(container_task.main(task, env["METAFLOW_EXTRACTED_ROOT"]))
""".strip()

BOOTSTRAP = f"""
import base64, importlib.util, hashlib, json, os, subprocess, sys, tarfile, tempfile, time, zlib
env = os.environ
{_FETCH}
needed = {{
    "s3": [("boto3", "boto3")],
    "azure": [("azure.identity", "azure-identity"), ("azure.storage.blob", "azure-storage-blob"),
              ("azure.keyvault.secrets", "azure-keyvault-secrets")],
    "gs": [("google.cloud.storage", "google-cloud-storage"), ("google.auth", "google-auth"),
           ("google.cloud.secretmanager", "google-cloud-secret-manager"), ("packaging", "packaging")],
}}[env["METAFLOW_CODE_DS"]] + [("requests", "requests")]
def has(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False
missing = [package for name, package in needed if not has(name)]
if missing and not env.get("METAFLOW_SKIP_INSTALL_DEPENDENCIES"):
    what = missing
    if env["METAFLOW_CODE_DS"] == "s3":
        pins = {json.dumps(PINS)}
        lines = sorted({{"%s --hash=sha256:%s" % (wanted, sha) for root, flag, name, wanted, sha in pins
                        if root in missing and (flag == "=" or not has(name))}})
        with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False) as file:
            file.write("\\n".join(lines))
        what = ["--require-hashes", "--no-deps", "--only-binary=:all:", "-r", file.name]
    pip = [sys.executable, "-m", "pip", "install", "-qqq", "--no-compile", "--no-cache-dir"]
    if subprocess.call([*pip, "--disable-pip-version-check", *what]):
        sys.exit("%s could not be installed; an image that has these packages needs no installation."
                 % " and ".join(missing))
    importlib.invalidate_caches()
try:
    os.mkdir("metaflow")
    os.chdir("metaflow")
except OSError:
    os.chdir(tempfile.mkdtemp(prefix="metaflow-"))
env["METAFLOW_EXTRACTED_ROOT"] = os.getcwd()
with open("job.tar", "wb") as file:
    file.write(verified(env["METAFLOW_CODE_URL"], env["METAFLOW_CODE_SHA"]))
with tarfile.open("job.tar", "r:gz") as tar:
    # Early patch releases of Python 3.9 to 3.11 have no filters.
    tar.extractall(**({{"filter": "data"}} if hasattr(tarfile, "data_filter") else {{}}))
os.makedirs(".metaflow", exist_ok=True)
env["PYTHONPATH"] = os.pathsep.join(filter(None, [os.path.join(os.getcwd(), ".mf_code"), env.get("PYTHONPATH")]))
{_RUN}
""".strip()
"""Program of every container; the names of the packages are those that Metaflow's own command installs."""

_CONTINUE = f"""
import base64, hashlib, json, os, sys, time, zlib
env = os.environ
{_FETCH}
{_RUN}
""".strip()
"""Program of a container that Metaflow's own commands have set up."""


def container_command(manifest: Manifest, code: CodePackage, step: str) -> list[str]:
    """Return the command of the containers of a step, as an argument list.

    :param manifest: the compiled flow.
    :param code: the code package that the run uses.
    :param step: name of the step.
    """
    settings = remote_settings(manifest)
    setup = settings.containers.get(step)
    if setup is not None and setup.bootstrap:
        # Metaflow's own way into conda, PyPI and uv environments; its texts are made for bash.
        script = setup.bootstrap.replace(_key(manifest.code), _key(code))
        return ["bash", "-c", f'{script} && exec {setup.executable} -c "$0"', _CONTINUE]
    command = [(setup.executable if setup else None) or "python", "-c", BOOTSTRAP]
    if "METAFLOW_INIT_SCRIPT" in settings.environment:
        return ["bash", "-c", 'eval "${METAFLOW_INIT_SCRIPT}" && exec "$@"', "init", *command]
    return command


def _key(code: CodePackage) -> str:
    """Return the name of a package inside the datastore, which is content-addressed."""
    return f"{code.sha[:2]}/{code.sha}"


def task_document(
    manifest: Manifest,
    code: CodePackage,
    calls: Sequence[StepCall],
    *,
    environment: Mapping[str, str],
    parameters: Mapping[str, str] | None = None,
    inherited: Inherited | None = None,
    gang: int | None = None,
    time_limit: int | None = None,
) -> TaskDocument:
    """Return the document that says which task a container runs, or which tasks an array of containers.

    :param manifest: the compiled flow.
    :param code: the code package that the run uses.
    :param calls: the tasks; all of one step, run and attempt.
    :param environment: variables of the task; no secrets.
    :param parameters: for the start step, the parameters of the run.
    :param inherited: of a resumed run: where its other parameters come from.
    :param gang: number of nodes of a ``@parallel`` step.
    :param time_limit: after how many seconds the task is killed.
    """
    first = calls[0]
    shared = shared_arguments(manifest, first)
    own = {call.task_id: own_arguments(call) for call in calls}
    if len({call.inputs for call in calls}) == 1:
        shared.append(f"--input-paths={join_paths(first.inputs)}")
    else:
        own = {call.task_id: [*own[call.task_id], f"--input-paths={join_paths(call.inputs)}"] for call in calls}
    return TaskDocument(
        flow_name=manifest.graph.name,
        flow_file=code.flow_file,
        datastore=code.datastore,
        datastore_root=manifest.command.datastore_root,
        step=first.step.name,
        run_id=first.run_id,
        attempt=first.attempt,
        arguments=tuple(shared),
        tasks=tuple(TaskArguments(task_id=name, arguments=tuple(arguments)) for name, arguments in own.items()),
        env=dict(environment),
        package=code.package,
        init=None if parameters is None else init_request(manifest, first.run_id, parameters, inherited),
        gang=gang,
        time_limit=time_limit,
    )


def encode_document(document: TaskDocument, save: Save, limit: int = MAX_INLINE_BYTES) -> str:
    """Return the value of the variable that holds a document: the document itself, or where it is.

    :param document: the document.
    :param save: puts bytes into the flow's datastore.
    :param limit: longer values go by reference.
    """
    text = encode_inline(document)
    return text if len(text) <= limit else f"@{save(base64.b64decode(text))}"


def encode_inline(document: TaskDocument | Mapping[str, Any]) -> str:
    """Return a document as text without any character that a template engine or a shell would look at.

    :param document: a document of :mod:`~metaflow_orchestration.documents`, or JSON types.
    """
    return base64.b64encode(
        zlib.compress(json.dumps(msgspec.to_builtins(document), sort_keys=True).encode(), 9)
    ).decode()


def first_environment(manifest: Manifest, code: CodePackage) -> dict[str, str]:
    """Return the variables without which a container cannot fetch its code package.

    :param manifest: the compiled flow.
    :param code: the code package that the run uses.
    """
    known = remote_settings(manifest).environment
    names = (
        "METAFLOW_S3_ENDPOINT_URL",
        "METAFLOW_AZURE_STORAGE_BLOB_SERVICE_ENDPOINT",
        "METAFLOW_INIT_SCRIPT",
        "METAFLOW_SKIP_INSTALL_DEPENDENCIES",
    )
    found = {name: known[name] for name in names if name in known}
    return {
        **found,
        "METAFLOW_CODE_URL": code.url,
        "METAFLOW_CODE_SHA": code.sha,
        "METAFLOW_CODE_DS": code.datastore,
    }
