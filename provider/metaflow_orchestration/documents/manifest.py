"""The manifest: one JSON document that holds all that an orchestrator must know of a deployed flow.

Versions of the format:

* 1 (0.1.0): first release.
"""

# Without postponed annotations: msgspec would have to compile each of them when a DAG file is parsed.

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from metaflow_orchestration.documents.structs import built
from metaflow_orchestration.exceptions import FlowCompileError, InvalidOptionError, ManifestError
from metaflow_orchestration.graph.model import FlowGraph
from metaflow_orchestration.graph.naming import check_name
from metaflow_orchestration.graph.validate import validate_graph

SCHEMA_VERSION = 1
SUFFIX = ".metaflow.json"


class Notifications(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The recipients of reports on the end of a run. Secrets stay in Airflow's connections, which are named here.

    :param on_error: report runs that failed.
    :param on_success: report runs that succeeded.
    :param slack: id of a connection of type ``slackwebhook``.
    :param pager_duty: id of a connection of type ``pagerduty_events``.
    :param incident_io: id of a connection of type ``http`` whose password is the API key of incident.io.
    :param incident_io_source: alert source there.
    :param incident_io_metadata: pairs that are added to its alerts.
    :param sns_topic: ARN of a topic of Amazon SNS.
    """

    on_error: bool = False
    on_success: bool = False
    slack: str | None = None
    pager_duty: str | None = None
    incident_io: str | None = None
    incident_io_source: str | None = None
    incident_io_metadata: tuple[tuple[str, str], ...] = ()
    sns_topic: str | None = None


class Deployment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who deployed the flow under which name, and with which options of ``create``.

    :param name: name of the deployment; the DAG id on Airflow.
    :param owner: user who deployed it.
    :param production_token: token of the production namespace.
    :param token_proof: what others may see of it, see :mod:`~metaflow_orchestration.compile.token_proof`; empty in
        manifests of older releases.
    :param namespace: ``--namespace``, when it was given.
    :param tags: ``--tag`` values.
    :param max_workers: upper limit of tasks that run at a time.
    :param workflow_timeout: limit of a whole run, in seconds.
    :param worker_pool: Airflow pool of all steps.
    :param is_paused_upon_creation: None leaves it to Airflow's configuration.
    :param emit_events: whether the end of a run emits an event.
    :param emit_step_events: whether each step emits one, too; of Airflow only.
    :param notifications: the recipients of reports on the end of a run.
    """

    name: str
    owner: str
    production_token: str
    token_proof: str = ""
    namespace: str | None = None
    tags: tuple[str, ...] = ()
    max_workers: int | None = None
    workflow_timeout: int | None = None
    worker_pool: str | None = None
    is_paused_upon_creation: bool | None = None
    emit_events: bool = True
    emit_step_events: bool = False
    notifications: Notifications | None = None


class CodePackage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The code package that Metaflow made, content-addressed in the datastore.

    :param url: where it is.
    :param sha: hash of its content.
    :param metadata: JSON text by which Metaflow knows how to unpack it.
    :param datastore: type of the datastore.
    :param flow_file: path of the flow file inside the package.
    :param flow_dir: the folder that was packaged, at deploy time: that of the flow file, or the root of its project;
        files that the package leaves out are looked for there.
    :param package: the Python package of a flow file with relative imports, which runs as ``python -m`` does.
    """

    url: str
    sha: str
    metadata: str
    datastore: str
    flow_file: str
    flow_dir: str
    package: str = ""


class Command(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What all commands of the flow have in common.

    :param top_level: options before the subcommand.
    :param environment: variables of every task, e.g. ``METAFLOW_OWNER``; no secrets.
    :param datastore_root: root of the datastore.
    :param metadata: type of the metadata provider.
    """

    top_level: tuple[str, ...]
    environment: dict[str, str]
    datastore_root: str
    metadata: str


@built
class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A compiled flow.

    :param graph: the flow itself.
    :param deployment: identity and options.
    :param code: the code package.
    :param command: shared part of the commands.
    :param inputs: files beside the code that the compiler read (config files), with the hash of their content.
    :param remote: what containers need to know, see :mod:`~.container_settings`; plain data here, which costs no parse.
    :param compiled_in_place: whether it was compiled where its DAG file is parsed: then the folder of the flow is no
        part of what was deployed, see :func:`deployed_part`.
    """

    graph: FlowGraph
    deployment: Deployment
    code: CodePackage
    command: Command
    inputs: tuple[tuple[str, str], ...] = ()
    remote: dict[str, Any] = {}
    compiled_in_place: bool = False


@built
class _Document(msgspec.Struct, frozen=True, kw_only=True):
    schema_version: int
    digest: str
    manifest: msgspec.Raw


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the manifest as JSON; equal manifests give equal bytes.

    :param manifest: a compiled flow.
    """
    # As a reader will have it: what counts as a default, and is left out, depends on how an empty tuple was made.
    body = encode_body(msgspec.json.decode(encode_body(manifest), type=Manifest))
    document = {
        "schema_version": SCHEMA_VERSION,
        "digest": hashlib.sha256(body).hexdigest(),
        "manifest": msgspec.Raw(body),
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def deployed_part(manifest: Manifest) -> Manifest:
    """Return a manifest without what differs between machines that compile the same flow where they find it.

    :param manifest: a compiled flow.
    """
    if not manifest.compiled_in_place:
        return manifest
    code = msgspec.structs.replace(manifest.code, flow_dir="")
    return msgspec.structs.replace(manifest, code=code, inputs=())


def encode_body(manifest: Manifest) -> bytes:
    """Return the part of the JSON of which the digest is made.

    :param manifest: a compiled flow.
    """
    return msgspec.json.encode(manifest, order="sorted")


def decode_manifest(data: bytes, source: str) -> Manifest:
    """Return the manifest that the JSON text holds.

    :param data: what :func:`encode_manifest` made.
    :param source: what to call the text in an error, e.g. its file name.
    :raises ManifestError: if it is cut short, was edited, is of another version, or holds what no flow can be.
    """
    try:
        manifest = _decode(data, source)
        validate_graph(manifest.graph)
        check_name(manifest.deployment.name, manifest.graph.name)
    except RecursionError:
        raise ManifestError(f"manifest {source} is damaged: it is nested too deeply.", hint=_RECREATE) from None
    except (FlowCompileError, InvalidOptionError) as error:
        raise ManifestError(
            f"manifest {source} is damaged: {error.message}", flow=error.flow, step=error.step, hint=_RECREATE
        ) from None
    return manifest


def _decode(data: bytes, source: str) -> Manifest:
    try:
        version = msgspec.json.decode(data, type=dict[str, Any]).get("schema_version")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ManifestError(f"manifest {source} is cut short or not JSON ({error}).", hint=_RECREATE) from None
    if version != SCHEMA_VERSION:
        raise ManifestError(
            f"manifest {source} has format version {version!r:.80}; this release reads version {SCHEMA_VERSION}.",
            hint="Install the release of airflow-provider-metaflow that wrote it, or run `airflow create` again.",
        )
    try:
        document = msgspec.json.decode(data, type=_Document)
        manifest = msgspec.json.decode(document.manifest, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ManifestError(f"manifest {source} is damaged: {error}.", hint=_RECREATE) from None
    if hashlib.sha256(encode_body(manifest)).hexdigest() != document.digest:
        raise ManifestError(
            f"manifest {source} was edited after it was written.",
            flow=manifest.graph.name,
            hint="Change the flow or the arguments of MetaflowDag instead, and run `airflow create` again.",
        )
    return manifest


_RECREATE = "Run `python FLOW.py airflow create` again."


def read_manifest(path: Path) -> Manifest:
    """Read a manifest file.

    :param path: the file.
    :raises ManifestError: if it is missing or unreadable; see :func:`decode_manifest`.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ManifestError(f"manifest {path} cannot be read ({error.strerror}).", hint=_RECREATE) from None
    return decode_manifest(data, str(path))


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees either the old content or the new one, never a part.

    Who cannot read its folder cannot read the file: in a private folder it is private, for a manifest holds the
    production token and the values of ``@environment``.

    :param path: the file; its folder is made if missing.
    :param data: the content.
    """
    if not isinstance(path, Path):
        # An object store (`cloudpathlib.CloudPath`): an object appears whole or not at all.
        path.write_bytes(data)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        readers = path.parent.stat().st_mode & 0o044
        Path(name).chmod((0o600 | readers) & ~umask)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
