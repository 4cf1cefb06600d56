"""What is killed of a real Airflow at random moments, in an order that a seed determines, and what starts it again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

from .airflow import SharedAirflow
from .object_store import ObjectStore

COMPONENTS = ("scheduler", "triggerer", "dag-processor", "api-server")
"""Of Airflow's, each a process group."""

PROCESSES = ("step", "session", "task", "supervisor", "warm process")
"""Of tasks: the step, what watches it in the warm process, Airflow's task runner and its supervisor."""

SERVERS = ("database", "object store", "disk")
"""What tasks share; the disk is that of the datastore of flows without an object store, which is full for a while."""

KINDS = (*PROCESSES, *COMPONENTS, *SERVERS)

_LONGEST_SECONDS = {"object store": 60.0, "database": 5.0, "disk": 4.0}
"""How long they are away at most. On a full disk a try fails at once: after some seconds no retries would be left."""

_RESTART_SECONDS = 1.0
"""How long a component of Airflow's is away, as systemd (``RestartSec``) and Kubernetes have it at the first time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kill.

    :param kind: one of :data:`KINDS`.
    :param pause: seconds since the one before.
    :param pick: which of the processes that could be killed: the first at 0, the last below 1.
    :param away: for how many seconds a server is away.
    """

    kind: str
    pause: float
    pick: float
    away: float


def planned(
    seed: int,
    count: int,
    pauses: tuple[float, float],
    longest: float = 60.0,
    kinds_there_are: tuple[str, ...] = KINDS,
) -> list[Fault]:
    """Return kills in a random order, in which each kind comes up as often as the others.

    :param seed: the same gives the same.
    :param count: how many.
    :param pauses: shortest and longest pause between two, in seconds.
    :param longest: for how many seconds a server may be away.
    :param kinds_there_are: what may be killed.
    """
    rng = random.Random(seed)
    kinds: list[str] = []
    while len(kinds) < count:
        kinds += rng.sample(kinds_there_are, len(kinds_there_are))
    return [
        Fault(
            kind=kind,
            pause=round(rng.uniform(*pauses), 2),
            pick=rng.random(),
            away=round(rng.uniform(1.0, min(longest, _LONGEST_SECONDS.get(kind, longest))), 2),
        )
        for kind in kinds[:count]
    ]


@dataclass(frozen=True, slots=True)
class Process:
    """A process of the Airflow under test; `leader` says that it has a session of its own."""

    pid: int
    parent: int
    leader: bool
    title: str

    @property
    def runs_metaflow(self) -> bool:
        return "task_runner.py" in self.title


@dataclass
class Site:
    """The Airflow, and the object store of its flows."""

    airflow: SharedAirflow
    store: ObjectStore
    _sessions: set[int] = field(default_factory=set)
    _database_is_away: bool = False

    def note_sessions(self) -> None:
        """Remember the components that there are: what they start is known by their session also after their end."""
        self._sessions.update(one.pid for one in self.airflow.server._processes.values())

    def processes(self) -> list[Process]:
        """Return what Airflow's components have started, the oldest first, and they themselves."""
        self.note_sessions()
        mark = f"AIRFLOW_HOME={self.airflow.server.home}\0".encode()
        found = []
        for folder in sorted(Path("/proc").glob("[0-9]*"), key=lambda one: int(one.name)):
            with suppress(OSError, IndexError):
                title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                _, parent, _, session, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
                # A process that changes its title loses what is shown of its environment.
                if title and (int(session) in self._sessions or mark in (folder / "environ").read_bytes() + b"\0"):
                    found.append(Process(int(folder.name), int(parent), session == folder.name, title))
        return found

    def targets(self, kind: str) -> list[int]:
        """Return the processes that a kill of this kind can choose from; none at a moment without such."""
        if kind in COMPONENTS:
            process = self.airflow.server._processes[kind]
            return [process.pid] if process.poll() is None else []
        running = self.processes()
        ours = {one.pid: one for one in running if one.runs_metaflow}
        sessions = {pid for pid, one in ours.items() if not one.leader}
        started = {one.parent for one in running if _is_task(one)}
        chosen: dict[str, Callable[[Process], bool]] = {
            "step": lambda one: one.leader and one.parent in sessions,
            "session": lambda one: one.pid in sessions,
            "warm process": lambda one: one.leader and one.pid in ours and one.parent not in ours,
            "task": _is_task,
            # Not before its task has started: LocalExecutor (3.3) cannot revoke a queued task, so the scheduler would
            # leave it queued for ever.
            "supervisor": lambda one: _is_supervisor(one) and one.pid in started,
        }
        return [one.pid for one in running if chosen[kind](one)]

    def strike(self, fault: Fault) -> Callable[[], None] | None:
        """Kill; return what ends the fault after `away` seconds, None if there is nothing to kill at this moment."""
        if fault.kind == "database":
            return self._kill_database()
        if fault.kind == "object store":
            self.store.process.send_signal(signal.SIGSTOP)
            return lambda: self.store.process.send_signal(signal.SIGCONT)
        if fault.kind == "disk":
            return self._fill_disk()
        targets = self.targets(fault.kind)
        if not targets:
            return None
        target = targets[int(fault.pick * len(targets))]
        with suppress(ProcessLookupError):
            # All of a component, as systemd and Kubernetes end it; one process elsewhere, as the kernel does.
            (os.killpg if fault.kind in COMPONENTS else os.kill)(target, signal.SIGKILL)
        return lambda: None

    def _kill_database(self) -> Callable[[], None] | None:
        if self._database_is_away:
            return None
        self._database_is_away = True
        self.airflow.database.kill()

        def start() -> None:
            self.airflow.database.start()
            self._database_is_away = False

        return start

    def _fill_disk(self) -> Callable[[], None]:
        filler = self.airflow.sysroot / "filler"
        with filler.open("wb") as file:
            # What others write meanwhile may leave too little for all of it at once.
            for share in (1.0, 0.9, 0.5):
                left = os.statvfs(self.airflow.sysroot)
                with suppress(OSError):
                    os.posix_fallocate(file.fileno(), file.tell(), int(left.f_bavail * left.f_frsize * share) or 1)
                    file.seek(0, os.SEEK_END)
        return filler.unlink


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """Mount a file system in memory over an empty folder."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "none", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def _is_task(process: Process) -> bool:
    return process.title.startswith("airflow worker -- ") and not _is_supervisor(process)


def _is_supervisor(process: Process) -> bool:
    return process.title.startswith("airflow worker -- LocalExecutor")


@contextmanager
def restarting(site: Site) -> Iterator[None]:
    """Start again each component of the Airflow that ends, as systemd and Kubernetes do, as long as the body runs.

    They also end by themselves, when the database is away.
    """
    airflow, ended = site.airflow, Event()

    def keep() -> None:
        starts: dict[str, int] = {}
        while not ended.wait(_RESTART_SECONDS):
            for name in COMPONENTS:
                process = airflow.server._processes[name]
                if process.poll() is None:
                    continue
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                starts[name] = starts.get(name, 0) + 1
                log = airflow.server._log(name)
                log.rename(log.with_suffix(f".{starts[name]}.log"))
                airflow.server._spawn(name)
                site.note_sessions()

    keeper = Thread(target=keep)
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join()
