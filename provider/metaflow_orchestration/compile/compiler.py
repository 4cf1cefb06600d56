"""Compiles a flow file in a child process and caches the manifest by the content of the flow's files.

Imports no Metaflow and no user code into the calling process.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

import msgspec

from metaflow_orchestration.cache import MANIFESTS, Cache, locked, touch
from metaflow_orchestration.compile.cache.failures import Attempt
from metaflow_orchestration.compile.flow_process.order import Order
from metaflow_orchestration.compile.inputs.layout import project_root_of
from metaflow_orchestration.compile.inputs.reads import has_digest, read_reads
from metaflow_orchestration.compile.inputs.source_files import other_files, source_files
from metaflow_orchestration.compile.processes.supervised import Finished, run_supervised
from metaflow_orchestration.documents.manifest import (
    SCHEMA_VERSION,
    SUFFIX,
    Manifest,
    decode_manifest,
    write_atomically,
)
from metaflow_orchestration.exceptions import FlowCompileError, ManifestError

_ENVIRONMENT = ("METAFLOW_", "PYTHONPATH", "USERNAME", "USER")
_OF_USER = ("METAFLOW_HOME", "METAFLOW_USER", "PYTHONPATH", "USER", "USERNAME")
_TIMEOUT_SECONDS = 600
_WATCHED = "from metaflow_orchestration.compile.flow_process.watched import main; main()"


class CompileOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a flow file is compiled.

    :param top_level: options before the subcommand, e.g. ``("--with", "retry", "--production")``.
    :param name: name of the deployment.
    :param create: options of ``create``, e.g. ``("--tag", "nightly")``.
    :param python: interpreter that has the flow's imports.
    :param group: command group of the orchestrator.
    :param environment: further variables for Metaflow.
    :param project_root: folder that the flow is started from; default: its own, or the one above its package if it has
        relative imports.
    :param import_paths: folders that it can import from, too; they count by what is imported from them.
    :param shared: whether machines take each other's results from the datastore; see :mod:`~.shared_manifests`.
    :param on_worker: whether a task runs here, which takes what the DAG processor has compiled, whatever differs here.
    """

    top_level: tuple[str, ...] = ()
    name: str | None = None
    create: tuple[str, ...] = ()
    python: str = "python"
    group: str = "airflow"
    environment: tuple[tuple[str, str], ...] = ()
    project_root: str | None = None
    import_paths: tuple[str, ...] = ()
    shared: bool = False
    on_worker: bool = False


Run = Callable[..., Finished]
"""Runs the command that compiles a flow, as :func:`~.supervised.run_supervised` does."""


def load_manifest(
    path: Path,
    options: CompileOptions,
    cache: Cache | Path,
    *,
    remember_failures: bool = False,
    run: Run = run_supervised,
) -> Manifest:
    """Return the manifest of a flow file.

    :param path: the flow file.
    :param options: how to compile it.
    :param cache: the cache of compiled manifests, or its folder.
    :param remember_failures: raise the same error again for a short time instead of compiling it again; for callers
        that come by every few seconds, as parses of DAG files do.
    :param run: runs the compile.
    :raises MetaflowProviderError: if the file is gone or does not compile.
    """
    cache = Cache.at(cache)
    entry = Entry.of(path, options, cache)
    manifest = entry.manifest()
    if manifest is None:
        attempt = entry.attempt if remember_failures else None
        with locked(entry.target):
            manifest = entry.manifest()
            if manifest is None:
                manifest = _compile(entry, attempt, run)
            cache.evict(entry.target)
    entry.note_use()
    return manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The place of a compiled flow in the cache, which depends on the content of the flow's files.

    :param path: the flow file.
    :param options: how it is compiled.
    :param target: file of the manifest.
    """

    path: Path
    options: CompileOptions
    target: Path

    @classmethod
    def of(cls, path: Path, options: CompileOptions, cache: Cache) -> Entry:
        """Return the place of a flow as it is now.

        :param path: the flow file.
        :param options: how to compile it.
        :param cache: the cache.
        :raises MetaflowProviderError: if the file is gone or cannot be read, or the cache cannot be used.
        """
        if not path.is_file():
            raise FlowCompileError(
                f"flow file {path} does not exist.", hint="Fix the path in the DAG file, or bring the flow back."
            )
        root = project_root_of(path, options.project_root)
        if root is not None and not (root.is_dir() and path.absolute().is_relative_to(root)):
            raise FlowCompileError(
                f"project_root: {root} is no folder that holds the flow file {path}.",
                hint="Name the folder that the flow is started from (`--project-root` of `create`).",
            )
        try:
            key = _key(path, options)
        except OSError as error:
            raise FlowCompileError(f"flow file {path} cannot be read ({error.strerror}).") from None
        return cls(path=path, options=options, target=cache.folder(MANIFESTS) / f"{key}{SUFFIX}")

    @property
    def root(self) -> Path:
        """The folder that the flow is started from."""
        return project_root_of(self.path, self.options.project_root) or self.path.parent

    @property
    def reads(self) -> Path:
        """File of what its import read elsewhere; see :mod:`~.watched`."""
        return self.target.with_suffix(".reads")

    def order(self) -> Order:
        """Return what the process that compiles it is asked for."""
        return Order(
            target=str(self.target.resolve()),
            reads=str(self.reads.resolve()),
            import_paths=self.options.import_paths,
            key=_shared_key(self.path, self.options) if self.options.shared else "",
            on_worker=self.options.on_worker,
        )

    @property
    def attempt(self) -> Attempt:
        """The last attempt to compile it."""
        return Attempt(self.target.with_suffix(".failed"))

    def manifest(self) -> Manifest | None:
        """Return the manifest; None if it was not compiled yet, or if what the flow reads has changed since."""
        manifest, reads = _read_manifest(self.target), read_reads(self.reads)
        same = reads is not None and reads.are_same({**child_environment(), **dict(self.options.environment)})
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
        with contextlib.suppress(OSError):
            if not self._pointer().exists() or self._pointer().read_text() != self.target.name:
                write_atomically(self._pointer(), self.target.name.encode())

    def _pointer(self) -> Path:
        facts = (_counted(self.options), str(self.path.absolute()))
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


def _compile(entry: Entry, attempt: Attempt | None, run: Run) -> Manifest:
    if attempt is None:
        return _compiled(entry, lambda: None, run)
    attempt.check()
    attempt.begin(entry.path.name)
    try:
        manifest = _compiled(entry, attempt.beat, run)
    except _CompileTimeoutError as error:
        attempt.fail(error, hung=True)
        raise
    except FlowCompileError as error:
        attempt.fail(error, hung=False)
        raise
    attempt.succeed()
    return manifest


def _compiled(entry: Entry, beat: Callable[[], None], run: Run) -> Manifest:
    path, target = entry.path, entry.target
    before = _state_of(target)
    result = _run(entry, beat, run)
    if result.status != 0:
        raise FlowCompileError(
            f"it does not compile:\n{complaint(result.stdout, result.stderr)}",
            flow=path.name,
            step=step_named(result.stdout + result.stderr),
            hint=_hint(entry, result.stdout + result.stderr),
        )
    if _state_of(target) in (None, before):
        # The manifest of an earlier compile stays for parses while there is no new one.
        raise FlowCompileError(
            f"running it as a program wrote no manifest.\n{complaint(result.stdout, result.stderr)}".strip(),
            flow=path.name,
            hint="A flow file ends with `if __name__ == '__main__':` and a call of its flow.",
        )
    # It holds the production token.
    target.chmod(0o600)
    return decode_manifest(target.read_bytes(), str(target))


class _CompileTimeoutError(FlowCompileError):
    """Compiling took too long."""


def _run(entry: Entry, beat: Callable[[], None], run: Run) -> Finished:
    path, options, target, root = entry.path, entry.options, entry.target, entry.root.absolute()
    group = [options.group, *(["--name", options.name] if options.name else [])]
    command = [
        options.python,
        "-c",
        _WATCHED,
        msgspec.json.encode(entry.order()).decode(),
        os.path.relpath(path.absolute(), root),
        "--no-pylint",
        *options.top_level,
        *group,
        "create",
        "--manifest-only",
        *options.create,
        *(["--project-root", str(root)] if root != path.absolute().parent else []),
        str(target.resolve()),
    ]
    try:
        return run(
            command,
            folder=root,
            environment={**child_environment(), **dict(options.environment)},
            seconds=_TIMEOUT_SECONDS,
            beat=beat,
        )
    except OSError as error:
        raise FlowCompileError(
            f"the interpreter {options.python!r} cannot be started ({error.strerror}).", flow=path.name
        ) from None
    except subprocess.TimeoutExpired:
        raise _CompileTimeoutError(f"compiling it took over {_TIMEOUT_SECONDS} s.", flow=path.name) from None


def child_environment() -> dict[str, str]:
    """Return the environment that a flow is compiled in."""
    environment = dict(os.environ)
    # Airflow often runs as a user without a name; Metaflow refuses to deploy as root or nobody.
    environment.setdefault("METAFLOW_USER", environment.get("USER") or "airflow")
    return environment


def complaint(stdout: str, stderr: str) -> str:
    """Return what went wrong in a process of Metaflow: its own message, or the end of a traceback.

    :param stdout: what it wrote.
    :param stderr: what it wrote there.
    """
    lines = [line for line in (stdout + stderr).splitlines() if line.strip()]
    chatter = re.compile(r"^(Metaflow \S+ executing|Validating your flow|Running pylint|\s+The graph looks|Warning:)")
    lines = [line for line in lines if not chatter.match(line)]
    return "\n".join(lines[-15:])


def _state_of(file: Path) -> tuple[int, int] | None:
    try:
        state = file.stat()
    except OSError:
        return None
    return (state.st_ino, state.st_mtime_ns)


def _hint(entry: Entry, text: str) -> str:
    """Return what to try, for a flow that does not compile."""
    path, group = entry.path, entry.options.group
    if "attempted relative import" in text and entry.root == path.parent:
        return "\nA flow that is run as `python -m package.flow` is given `project_root=`, the folder of its package."
    if re.search(r"could not be read|No such file or directory|does not exist|ModuleNotFoundError", text):
        return (
            f"\nIt was started in {entry.root}. If the flow is started elsewhere, e.g. in the root of its repository, "
            f"give that folder as `project_root=` (`--project-root` of `create`).\nTry: python {path} {group} create"
        )
    return f"\nTry: python {path} {group} create"


def _counted(options: CompileOptions) -> CompileOptions:
    """Return the options that the result depends on; folders of imports count by the files that were imported."""
    return msgspec.structs.replace(options, import_paths=(), shared=False, on_worker=False)


def step_named(text: str) -> str | None:
    """Return the step that a message of Metaflow names, if it names one.

    :param text: the message.
    """
    found = re.search(r"[Ss]tep \*?(\w+)\*?", text)
    return found.group(1) if found else None


def _key(path: Path, options: CompileOptions) -> str:
    """Hash all that the manifest depends on."""
    facts = (SCHEMA_VERSION, _counted(options), str(path.resolve()), _versions(), _configuration(), _environment())
    return f"{path.stem}-{_digest(path, options, facts)}"


def _shared_key(path: Path, options: CompileOptions) -> str:
    """Hash the same but for what differs between machines and users of one deployment of Airflow."""
    root = project_root_of(path, options.project_root) or path.parent
    portable = msgspec.structs.replace(_counted(options), python="", project_root=os.path.relpath(path, root))
    environment = [(name, value) for name, value in _environment() if name not in _OF_USER]
    facts = (SCHEMA_VERSION, portable, _versions(), _extensions(), sys.version_info[:2], _configuration(), environment)
    # Two folders with the same code, and other data beside it, are two projects.
    return _digest(path, options, (*facts, other_files(root)))


def _digest(path: Path, options: CompileOptions, facts: Sequence[object]) -> str:
    digest = hashlib.sha256(repr(facts).encode("utf-8", "surrogateescape"))
    root = project_root_of(path, options.project_root)
    for source in source_files(path, root):
        digest.update(f"{source.path.relative_to(root or path.parent)}\0".encode("utf-8", "surrogateescape"))
        digest.update(source.digest)
    return digest.hexdigest()[:32]


def _environment() -> list[tuple[str, str]]:
    return sorted((name, value) for name, value in os.environ.items() if name.startswith(_ENVIRONMENT))


def _configuration() -> str:
    """Return a digest of Metaflow's configuration file, which decides where steps run (``metaflow_config_funcs``)."""
    home = os.environ.get("METAFLOW_HOME") or os.path.expanduser("~/.metaflowconfig")  # noqa: PTH111  (no home: no error)
    profile = os.environ.get("METAFLOW_PROFILE")
    file = Path(home, f"config_{profile}.json" if profile else "config.json")
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return ""


def _extensions() -> tuple[str, ...]:
    """Return the versions of all extensions of Metaflow, which travel in each code package."""
    names = sorted(set(packages_distributions().get("metaflow_extensions", ())))
    return tuple(f"{name} {version(name)}" for name in names)


@cache
def _versions() -> tuple[str, ...]:
    found = []
    for name in ("metaflow", "airflow-provider-metaflow"):
        try:
            found.append(version(name))
        except PackageNotFoundError:  # noqa: PERF203  (two rounds)
            found.append("none")
    return tuple(found)
