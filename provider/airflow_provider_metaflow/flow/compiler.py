"""Compiles a flow file in a child process and caches the manifest by the content of the flow's files.

Imports no Metaflow and no user code into the calling process.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from airflow_provider_metaflow.cache import MANIFESTS, Cache, locked, touch
from airflow_provider_metaflow.exceptions import FlowCompileError, ManifestError

from .attempts import Attempt
from .manifest import SCHEMA_VERSION, SUFFIX, Manifest, decode_manifest
from .supervised import Finished, run_supervised

_SOURCE_SUFFIXES = (".py", ".R", ".RDS")
"""Files that Metaflow packages with a flow (``metaflow.packaging_sys``: default suffixes)."""

_ENVIRONMENT = ("METAFLOW_", "PYTHONPATH", "USERNAME", "USER")
_TIMEOUT_SECONDS = 600


class CompileOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a flow file is compiled.

    :param top_level: options before the subcommand, e.g. ``("--with", "retry", "--production")``.
    :param name: name of the deployment.
    :param create: options of ``create``, e.g. ``("--tag", "nightly")``.
    :param python: interpreter that has the flow's imports.
    :param group: command group of the orchestrator.
    :param environment: further variables for Metaflow.
    """

    top_level: tuple[str, ...] = ()
    name: str | None = None
    create: tuple[str, ...] = ()
    python: str = "python"
    group: str = "airflow"
    environment: tuple[tuple[str, str], ...] = ()


def load_manifest(
    path: Path, options: CompileOptions, cache: Cache | Path, *, remember_failures: bool = False
) -> Manifest:
    """Return the manifest of a flow file.

    :param path: the flow file.
    :param options: how to compile it.
    :param cache: the cache of compiled manifests, or its folder.
    :param remember_failures: raise the same error again for a short time instead of compiling it again; for callers
        that come by every few seconds, as parses of DAG files do.
    :raises MetaflowProviderError: if the file is gone or does not compile.
    """
    if not path.is_file():
        raise FlowCompileError(
            f"flow file {path} does not exist.", hint="Fix the path in the DAG file, or bring the flow back."
        )
    cache = Cache.at(cache)
    target = cache.folder(MANIFESTS) / f"{_key(path, options)}{SUFFIX}"
    manifest = _cached(target)
    if manifest is None:
        attempt = Attempt(target.with_suffix(".failed")) if remember_failures else None
        with locked(target):
            manifest = _cached(target) or _compile(path, options, target, attempt)
            cache.evict(target)
    touch(target)
    return manifest


def _cached(target: Path) -> Manifest | None:
    try:
        manifest = decode_manifest(target.read_bytes(), str(target))
    except (FileNotFoundError, ManifestError):
        return None
    for name, digest in manifest.inputs:
        file = Path(name)
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            return None
    if manifest.code.datastore == "local" and not Path(manifest.code.url).exists():
        return None
    return manifest


def _compile(path: Path, options: CompileOptions, target: Path, attempt: Attempt | None) -> Manifest:
    if attempt is None:
        return _compiled(path, options, target, lambda: None)
    attempt.check()
    attempt.begin(path.name)
    try:
        manifest = _compiled(path, options, target, attempt.beat)
    except _CompileTimeoutError as error:
        attempt.fail(error, hung=True)
        raise
    except FlowCompileError as error:
        attempt.fail(error, hung=False)
        raise
    attempt.succeed()
    return manifest


def _compiled(path: Path, options: CompileOptions, target: Path, beat: Callable[[], None]) -> Manifest:
    result = _run(path, options, target, beat)
    if result.status != 0:
        raise FlowCompileError(
            f"it does not compile:\n{_complaint(result.stdout, result.stderr)}",
            flow=path.name,
            step=_step_named(result.stdout + result.stderr),
            hint=f"\nTry: python {path} {options.group} create",
        )
    # It holds the production token.
    target.chmod(0o600)
    return decode_manifest(target.read_bytes(), str(target))


class _CompileTimeoutError(FlowCompileError):
    """Compiling took too long."""


def _run(path: Path, options: CompileOptions, target: Path, beat: Callable[[], None]) -> Finished:
    group = [options.group, *(["--name", options.name] if options.name else [])]
    command = [
        options.python,
        path.name,
        "--no-pylint",
        *options.top_level,
        *group,
        "create",
        "--manifest-only",
        *options.create,
        str(target.resolve()),
    ]
    try:
        return run_supervised(
            command,
            folder=path.parent,
            environment={**_child_environment(), **dict(options.environment)},
            seconds=_TIMEOUT_SECONDS,
            beat=beat,
        )
    except OSError as error:
        raise FlowCompileError(
            f"the interpreter {options.python!r} cannot be started ({error.strerror}).", flow=path.name
        ) from None
    except subprocess.TimeoutExpired:
        raise _CompileTimeoutError(f"compiling it took over {_TIMEOUT_SECONDS} s.", flow=path.name) from None


def _child_environment() -> dict[str, str]:
    environment = dict(os.environ)
    # Airflow often runs as a user without a name; Metaflow refuses to deploy as root or nobody.
    environment.setdefault("METAFLOW_USER", environment.get("USER") or "airflow")
    return environment


def _complaint(stdout: str, stderr: str) -> str:
    """Return what went wrong: Metaflow's own message, or the end of a traceback."""
    lines = [line for line in (stdout + stderr).splitlines() if line.strip()]
    chatter = re.compile(r"^(Metaflow \S+ executing|Validating your flow|Running pylint|\s+The graph looks|Warning:)")
    lines = [line for line in lines if not chatter.match(line)]
    return "\n".join(lines[-15:])


def _step_named(text: str) -> str | None:
    found = re.search(r"[Ss]tep \*?(\w+)\*?", text)
    return found.group(1) if found else None


def _key(path: Path, options: CompileOptions) -> str:
    """Hash all that the manifest depends on."""
    digest = hashlib.sha256()
    facts: Sequence[object] = (SCHEMA_VERSION, options, str(path.resolve()), _versions(), _environment())
    digest.update(repr(facts).encode())
    for file in _sources(path.parent):
        digest.update(f"{file.relative_to(path.parent)}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return f"{path.stem}-{digest.hexdigest()[:32]}"


def _environment() -> list[tuple[str, str]]:
    return sorted((name, value) for name, value in os.environ.items() if name.startswith(_ENVIRONMENT))


def _versions() -> list[str]:
    found = []
    for name in ("metaflow", "airflow-provider-metaflow"):
        try:
            found.append(version(name))
        except PackageNotFoundError:  # noqa: PERF203  (two rounds)
            found.append("none")
    return found


def _sources(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__pycache__")
        for name in sorted(files):
            if name.endswith(_SOURCE_SUFFIXES):
                yield Path(root) / name
