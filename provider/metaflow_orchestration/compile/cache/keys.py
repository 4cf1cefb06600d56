"""Keys of compiled flows: hashes of all that they depend on."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

import msgspec

from metaflow_orchestration.compile.inputs.layout import project_root_of
from metaflow_orchestration.compile.inputs.source_files import other_files, source_files
from metaflow_orchestration.compile.options import CompileOptions
from metaflow_orchestration.compile.processes.environment import (
    TEMPORARY_FOLDERS,
    child_environment,
    configuration_file,
)
from metaflow_orchestration.documents.manifest import SCHEMA_VERSION

_ENVIRONMENT = ("METAFLOW_", "PYTHONPATH", "USERNAME", "USER")
_OF_USER = ("METAFLOW_HOME", "METAFLOW_USER", "PYTHONPATH", "USER", "USERNAME")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What manifests depend on beside flows and options: looked at once for all flows of a folder.

    :param environment: the environment that a flow is compiled in, from which the process that compiles in the
        background has its own.
    :param configuration: a digest of Metaflow's configuration file, which decides where steps run
        (``metaflow_config_funcs``); empty without one.
    """

    environment: Mapping[str, str]
    configuration: str

    @classmethod
    def now(cls) -> Surroundings:
        """Return them as they are."""
        try:
            configuration = hashlib.sha256(configuration_file(os.environ).read_bytes()).hexdigest()
        except OSError:
            configuration = ""
        return cls(child_environment(), configuration)

    def variables(self) -> list[tuple[str, str]]:
        """Return the variables that count for every flow."""
        found = ((name, value) for name, value in self.environment.items() if name.startswith(_ENVIRONMENT))
        return sorted((name, value) for name, value in found if name not in TEMPORARY_FOLDERS)


def counted_options(options: CompileOptions) -> CompileOptions:
    """Return the options that the result depends on; folders of imports count by the files that were imported.

    :param options: the options.
    """
    return msgspec.structs.replace(options, import_paths=(), shared=False, on_worker=False)


def cache_key(path: Path, options: CompileOptions, surroundings: Surroundings) -> str:
    """Hash all that the manifest depends on.

    :param path: the flow file.
    :param options: how it is compiled.
    :param surroundings: what else it depends on.
    """
    facts = (
        SCHEMA_VERSION,
        counted_options(options),
        str(path.resolve()),
        versions(),
        surroundings.configuration,
        surroundings.variables(),
    )
    return f"{path.stem}-{_digest(path, options, facts)}"


def shared_key(path: Path, options: CompileOptions, surroundings: Surroundings) -> str:
    """Hash the same but for what differs between machines and users of one deployment of Airflow.

    :param path: the flow file.
    :param options: how it is compiled.
    :param surroundings: what else it depends on.
    """
    root = project_root_of(path, options.project_root) or path.parent
    portable = msgspec.structs.replace(counted_options(options), python="", project_root=os.path.relpath(path, root))
    environment = [(name, value) for name, value in surroundings.variables() if name not in _OF_USER]
    python = sys.version_info[:2]
    facts = (SCHEMA_VERSION, portable, versions(), extensions(), python, surroundings.configuration, environment)
    # Two folders with the same code, and other data beside it, are two projects.
    return _digest(path, options, (*facts, other_files(root)))


def _digest(path: Path, options: CompileOptions, facts: Sequence[object]) -> str:
    digest = hashlib.sha256(repr(facts).encode("utf-8", "surrogateescape"))
    root = project_root_of(path, options.project_root)
    for source in source_files(path, root):
        digest.update(f"{source.path.relative_to(root or path.parent)}\0".encode("utf-8", "surrogateescape"))
        digest.update(source.digest)
    return digest.hexdigest()[:32]


@cache
def extensions() -> tuple[str, ...]:
    """Return the versions of all extensions of Metaflow, which travel in each code package.

    It reads about every distribution that is installed: a process that compiles many flows asks before it forks.
    """
    names = sorted(set(packages_distributions().get("metaflow_extensions", ())))
    return tuple(f"{name} {version(name)}" for name in names)


@cache
def versions() -> tuple[str, ...]:
    """Return the versions of Metaflow and of this package: a process that parses many files asks before it forks."""
    found = []
    for name in ("metaflow", "airflow-provider-metaflow"):
        try:
            found.append(version(name))
        except PackageNotFoundError:  # noqa: PERF203  (two rounds)
            found.append("none")
    return tuple(found)
