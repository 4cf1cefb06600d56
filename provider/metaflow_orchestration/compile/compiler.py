"""Compiles a flow file in a child process and caches the manifest by the content of the flow's files.

Imports no Metaflow and no user code into the calling process.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec

from metaflow_orchestration.cache import Cache, locked
from metaflow_orchestration.compile.cache.entry import Entry
from metaflow_orchestration.compile.cache.failures import Attempt
from metaflow_orchestration.compile.processes.environment import child_environment
from metaflow_orchestration.compile.processes.messages import complaint, step_named
from metaflow_orchestration.compile.processes.supervised import Finished, run_supervised
from metaflow_orchestration.documents.manifest import Manifest, decode_manifest
from metaflow_orchestration.exceptions import FlowCompileError

from .options import CompileOptions

__all__ = ["CompileOptions", "Run", "load_manifest"]

_TIMEOUT_SECONDS = 600
_WATCHED = "from metaflow_orchestration.compile.flow_process.watched import main; main()"


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
