"""Compiled flows in their datastore, by the content of their files: what one machine has compiled, the others reuse.

So defaults that are made at deploy time are made once per deployment, two DAG processors make the same DAG, and a
worker runs none of the flow's code to read its DAG file. Used by the process that compiles; imports Metaflow.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec

from metaflow_orchestration.compile.deployment.reachable import check_reachable
from metaflow_orchestration.compile.deployment.tokens import stored_token
from metaflow_orchestration.compile.inputs.reads import Reads, digest_of, has_digest, read_reads
from metaflow_orchestration.documents.manifest import Manifest, decode_manifest, encode_manifest, write_atomically
from metaflow_orchestration.documents.structs import built

from .order import Order

_FOLDER = "mf.airflow_manifests"

_SECRET = re.compile(r"(?i)pass|pwd|secret|token|key|credential")
"""Variables of which not even a digest goes into the datastore: short values are guessed from it."""


@built
class Deployed(msgspec.Struct, frozen=True, kw_only=True):
    """A compiled flow in the datastore. Files are relative to the folder that was packaged.

    :param manifest: its manifest.
    :param root: where that folder was.
    :param reads: what the import of the flow read.
    """

    manifest: str
    root: str
    reads: Reads


def fetch(order: Order, root: Path, arguments: Sequence[str]) -> bool:
    """Write the files of a flow that another machine has compiled; return whether there is one that holds here.

    :param order: what is compiled.
    :param root: the folder that would be packaged.
    :param arguments: the command line of the compile, which may name the datastore.
    """
    # Whatever is wrong with the datastore, the compile meets it, too, and says it better.
    with contextlib.suppress(Exception):
        storage = _storage(arguments)
        return storage is not None and _fetch(storage, order, root)
    return False


def share(order: Order, root: Path) -> None:
    """Keep a flow that was just compiled for other machines, or fetch what one of them has compiled meanwhile.

    :param order: what was compiled.
    :param root: the folder that was packaged.
    """
    # The flow is compiled, and works on this machine.
    with contextlib.suppress(Exception):
        manifest = decode_manifest(Path(order.target).read_bytes(), order.target)
        storage = _storage_of(manifest.code.datastore)(manifest.command.datastore_root)
        reads = read_reads(Path(order.reads))
        if reads is None or any(map(_SECRET.search, reads.variables)) or _fetch(storage, order, root):
            return
        deployed = Deployed(
            manifest=encode_manifest(_portable(manifest, root)).decode(),
            root=str(root),
            reads=Reads(files=_relative(reads.files, root), variables=reads.variables),
        )
        storage.save_bytes([(_path(order), BytesIO(msgspec.json.encode(deployed)))], overwrite=True)


def _fetch(storage: Any, order: Order, root: Path) -> bool:
    found = _load(storage, _path(order))
    if found is None:
        return False
    manifest = decode_manifest(found.manifest.encode(), _path(order))
    inputs = _relocated(dict(manifest.inputs), Path(found.root), root)
    code = msgspec.structs.replace(manifest.code, flow_dir=str(root))
    here = msgspec.structs.replace(manifest, code=code, inputs=tuple(sorted(inputs.items())))
    reads = Reads(files=_relocated(found.reads.files, Path(found.root), root), variables=found.reads.variables)
    if not _is_of(storage, manifest):
        return False
    if order.on_worker:
        if _has_other_values(found.reads):
            return False
        reads, here = _current(reads), msgspec.structs.replace(here, inputs=_digests(dict(here.inputs)))
    elif not (_holds_here(found, manifest, here, reads, root) and _has_token_of(storage, manifest)):
        return False
    if not storage.is_file([_code_path(here, storage)])[0]:
        return False
    write_atomically(Path(order.target), encode_manifest(here))
    write_atomically(Path(order.reads), msgspec.json.encode(reads))
    return True


def _is_of(storage: Any, manifest: Manifest) -> bool:
    """Return whether the code of a manifest is in the datastore that the manifest was found in."""
    if storage.TYPE == "local":
        return bool(manifest.code.datastore == storage.TYPE)
    place = (manifest.code.datastore, manifest.command.datastore_root)
    return place == (storage.TYPE, str(storage.datastore_root))


def _has_token_of(storage: Any, manifest: Manifest) -> bool:
    """Return whether the production token of a deployment is still that of a manifest."""
    token = stored_token(storage, manifest.deployment.name)
    return token is None or token == manifest.deployment.production_token


def _has_other_values(reads: Reads) -> bool:
    """Return whether a variable that was read has another value here; one that is not set here does not count."""
    return any(
        name in os.environ and digest_of(os.environ[name]) != digest
        for name, digest in reads.variables.items()
        if digest is not None
    )


def _holds_here(found: Deployed, manifest: Manifest, here: Manifest, reads: Reads, root: Path) -> bool:
    """Return whether a compile here would have made the same, but for what each compile makes new."""
    from metaflow.util import get_username

    own_branch = manifest.graph.project is not None and manifest.graph.project.branch.startswith("user.")
    if own_branch and manifest.deployment.owner != get_username():
        return False
    old = _moved_from(found.root, str(root))
    if old and old in found.manifest:
        # A default that holds the folder's path, or a datastore inside of it.
        return False
    return reads.are_same(os.environ) and all(has_digest(name, digest) for name, digest in here.inputs)


def _moved_from(old: str, new: str) -> str:
    """Return the topmost folder of an old path that a new one is not in; empty if they are equal."""
    if old == new:
        return ""
    common = os.path.commonpath([old, new])
    below = Path(old).relative_to(common).parts
    return os.path.join(common, below[0]) if below else old  # noqa: PTH118


def _portable(manifest: Manifest, root: Path) -> Manifest:
    inputs = tuple(sorted(_relative(dict(manifest.inputs), root).items()))
    code = msgspec.structs.replace(manifest.code, flow_dir="")
    return msgspec.structs.replace(manifest, code=code, inputs=inputs)


def _relative(files: Mapping[str, str], root: Path) -> dict[str, str]:
    return {os.path.relpath(name, root): digest for name, digest in files.items()}


def _relocated(files: Mapping[str, str], old: Path, new: Path) -> dict[str, str]:
    """Return files with their paths here: what has moved with the flow, or else what lies where it lay."""
    moved = {name: os.path.normpath(new / name) for name in files}
    kept = {name: os.path.normpath(old / name) for name in files}
    return {
        moved[name] if Path(moved[name]).exists() or not Path(kept[name]).exists() else kept[name]: digest
        for name, digest in files.items()
    }


def _current(reads: Reads) -> Reads:
    """Return the same variables and files with what is in them here."""
    variables = {name: digest_of(os.environ[name]) if name in os.environ else None for name in reads.variables}
    return Reads(files=dict(_digests(reads.files)), variables=variables)


def _digests(files: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    there = [name for name in sorted(files) if Path(name).is_file()]
    return tuple((name, hashlib.sha256(Path(name).read_bytes()).hexdigest()) for name in there)


def _path(order: Order) -> str:
    return f"{_FOLDER}/{order.key}"


def _code_path(manifest: Manifest, storage: Any) -> str:
    """Return the path of the code package in the datastore, which other users may have cleared."""
    root = str(storage.datastore_root)
    return manifest.code.url.removeprefix(os.path.realpath(root) if storage.TYPE == "local" else root).lstrip("/")


def _load(storage: Any, path: str) -> Deployed | None:
    with storage.load_bytes([path]) as results:
        for _, local, _ in results:
            if local is not None:
                return msgspec.json.decode(Path(local).read_bytes(), type=Deployed)
    return None


def _storage_of(kind: str) -> Any:
    from metaflow.plugins import DATASTORES

    return next(one for one in DATASTORES if kind == one.TYPE)


def _storage(arguments: Sequence[str]) -> Any:
    """Return the datastore that a command line names, or that Metaflow is configured for; None if there is none yet."""
    from metaflow.metaflow_config import DEFAULT_DATASTORE

    kind, root = DEFAULT_DATASTORE, None
    for word, after in zip(arguments, [*arguments[1:], ""], strict=True):
        name, _, value = word.partition("=")
        if name == "--datastore":
            kind = value or after
        elif name == "--datastore-root":
            root = value or after
    storage = _storage_of(kind)
    # Metaflow's clients would try for an hour.
    check_reachable(kind, "")
    found = root or storage.get_datastore_root_from_config(lambda *_, **__: None, create_on_absent=False)
    return None if found is None else storage(found)
