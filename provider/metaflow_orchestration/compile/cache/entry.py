"""The place of a compiled flow in the cache."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from metaflow_orchestration.cache import MANIFESTS, Cache, touch
from metaflow_orchestration.compile.cache.failures import Attempt
from metaflow_orchestration.compile.flow_process.order import Order
from metaflow_orchestration.compile.inputs.layout import project_root_of
from metaflow_orchestration.compile.inputs.reads import has_digest, read_reads
from metaflow_orchestration.compile.options import CompileOptions
from metaflow_orchestration.documents.manifest import (
    SUFFIX,
    Manifest,
    decode_manifest,
    write_atomically,
)
from metaflow_orchestration.exceptions import FlowCompileError, ManifestError

from .keys import Surroundings, cache_key, counted_options, shared_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The place of a compiled flow in the cache, which depends on the content of the flow's files.

    :param path: the flow file.
    :param options: how it is compiled.
    :param target: file of the manifest.
    :param surroundings: what the manifest depends on beside flow and options, as it was when this was made.
    """

    path: Path
    options: CompileOptions
    target: Path
    surroundings: Surroundings = field(repr=False, compare=False)

    @classmethod
    def of(cls, path: Path, options: CompileOptions, cache: Cache, surroundings: Surroundings | None = None) -> Entry:
        """Return the place of a flow as it is now.

        :param path: the flow file.
        :param options: how to compile it.
        :param cache: the cache.
        :param surroundings: if somebody has just looked at them.
        :raises MetaflowProviderError: if the file is gone or cannot be read, or the cache cannot be used.
        """
        if not path.is_file():
            raise FlowCompileError(
                f"flow file {path} does not exist.", hint="Fix the path in the DAG file, or restore the flow file."
            )
        root = project_root_of(path, options.project_root)
        if root is not None and not (root.is_dir() and path.absolute().is_relative_to(root)):
            raise FlowCompileError(
                f"project_root: {root} is no folder that holds the flow file {path}.",
                hint="Name the folder that the flow is started from (`--project-root` of `create`).",
            )
        surroundings = surroundings or Surroundings.now()
        try:
            key = cache_key(path, options, surroundings)
        except OSError as error:
            raise FlowCompileError(f"flow file {path} cannot be read ({error.strerror}).") from None
        target = cache.folder(MANIFESTS) / f"{key}{SUFFIX}"
        return cls(path=path, options=options, target=target, surroundings=surroundings)

    @property
    def root(self) -> Path:
        """The folder that the flow is started from."""
        return project_root_of(self.path, self.options.project_root) or self.path.parent

    @property
    def reads(self) -> Path:
        """File of what its import read elsewhere; see :mod:`~.recorder`."""
        return self.target.with_suffix(".reads")

    def order(self) -> Order:
        """Return what the process that compiles it is asked for."""
        return Order(
            target=str(self.target.resolve()),
            reads=str(self.reads.resolve()),
            import_paths=self.options.import_paths,
            key=shared_key(self.path, self.options, self.surroundings) if self.options.shared else "",
            on_worker=self.options.on_worker,
        )

    @property
    def attempt(self) -> Attempt:
        """The last attempt to compile it."""
        return Attempt(self.target.with_suffix(".failed"))

    def manifest(self) -> Manifest | None:
        """Return the manifest; None if it was not compiled yet, or if what the flow reads has changed since."""
        manifest, reads = _read_manifest(self.target), read_reads(self.reads)
        same = reads is not None and reads.are_same({**self.surroundings.environment, **dict(self.options.environment)})
        return manifest if same else None

    def latest(self) -> Path | None:
        """Return the manifest file of the flow as it was last, whatever has changed since, if there is one."""
        try:
            target = self.target.parent / self._pointer().read_text()
        except (OSError, ValueError):
            return None
        return target if _decoded(target) is not None else None

    def note_use(self) -> None:
        """Note that this is what the flow was last, and that it is used now."""
        touch(self.target)
        touch(self.reads)
        pointer, name = self._pointer(), self.target.name.encode()
        with contextlib.suppress(FileNotFoundError):
            if pointer.read_bytes() == name:
                return
        with contextlib.suppress(OSError):
            write_atomically(pointer, name)

    def _pointer(self) -> Path:
        facts = (counted_options(self.options), str(self.path.absolute()))
        digest = hashlib.sha256(repr(facts).encode("utf-8", "surrogateescape"))
        return self.target.with_name(f"{self.path.stem}-{digest.hexdigest()[:32]}.latest")


def _read_manifest(target: Path) -> Manifest | None:
    """Return a manifest if it is there, and the config files that it was made with are as they were."""
    manifest = _decoded(target)
    same = manifest is not None and all(has_digest(name, digest) for name, digest in manifest.inputs)
    return manifest if same else None


def _decoded(target: Path) -> Manifest | None:
    """Return a manifest if it and its code are there."""
    try:
        manifest = decode_manifest(target.read_bytes(), str(target))
    except (OSError, ManifestError):
        return None
    is_gone = manifest.code.datastore == "local" and not Path(manifest.code.url).exists()
    return None if is_gone else manifest
