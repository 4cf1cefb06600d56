"""What the command groups of the adapters do alike with the runs of a deployed flow."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

from metaflow_orchestration.exceptions import InvalidOptionError

from .messages import print_data, print_json
from .parameters import given_texts
from .resumed_runs import following_steps, origin_of, stored_texts
from .target import ResumeRequest, Values

WATCH_SECONDS = 5.0
"""Pause between two looks at a run that is waited for."""


class AdapterRuns(ABC):
    """The runs of a deployment, for a command group; see ``target.Runs``.

    :param obj: state of Metaflow's command line.
    :param runs: the runs, as the adapter has them.
    """

    going_on: ClassVar[tuple[str, ...]]
    """Statuses of a run that has not ended."""

    succeeded: ClassVar[str]
    """Status of a run that has succeeded."""

    unknown_seconds: ClassVar[float] = 0.0
    """For how many seconds the orchestrator may not know a run that it has just started."""

    done: ClassVar[Mapping[str, str]] = {"terminate": "is terminated"}
    """What is printed of a run after a verb that changes it."""

    what: ClassVar[str]
    """What a message calls a deployment."""

    def __init__(self, obj: Any, runs: Any) -> None:
        self.obj, self.runs = obj, runs

    @abstractmethod
    def caller(self, authorize: str | None) -> Any:
        """Return who asks, for the check whose deployment it is."""

    @abstractmethod
    def status_of(self, found: Any) -> str:
        """Return the status of a run, in the words of the orchestrator."""

    @abstractmethod
    def name(self) -> str:
        """Return the name of the deployment."""

    @abstractmethod
    def deployed(self, flow: str | None) -> Iterable[str]:
        """Return the names of the deployments of a flow, or of all flows."""

    @abstractmethod
    def list_runs(self, options: Values, *, as_json: bool) -> None:
        """Print the runs."""

    def link(self, run_id: str) -> str | None:
        """Return a sentence about where the orchestrator's user interface has a run."""
        return None

    def show_link(self, run_id: str) -> None:
        """Print where the orchestrator's user interface has a run."""
        if link := self.link(run_id):
            self.obj.echo(link)

    def details(self, found: Any) -> Mapping[str, Any]:
        """Return what is known of a run beside its status, for JSON."""
        return {}

    def detail_lines(self, found: Any) -> Iterator[str]:
        """Return what is known of a run beside its status, as lines of text."""
        return iter(())

    def log_lines(self, run_id: str, step: str | None) -> Iterator[tuple[str, str]]:
        """Return the lines of a run's logs, each with what has written it."""
        return iter(self.runs.logs(run_id, step))

    def start(self, options: Values) -> str:
        """Start a run."""
        return str(self.runs.start(given_texts(self.obj, options)))

    def resume(self, request: ResumeRequest) -> str | None:
        """Start a run that clones results of another one."""
        origin = origin_of(self.obj, request.run_id, request.origin_run_id)
        rerun = following_steps(self.obj, request.step_to_rerun) if request.step_to_rerun else ()
        given = given_texts(self.obj, request.options)
        stored = partial(stored_texts, self.obj, origin)
        return str(self.runs.resume(origin, self.caller(request.authorize), rerun, given, stored=stored))

    def watch(self, run_id: str) -> None:
        """Print each new status of a run that was just started, until it has ended."""
        self._exit_as(self._follow(run_id, prints=True, unknown_seconds=self.unknown_seconds))

    def status(self, run_id: str, *, watch: bool, as_json: bool) -> None:
        """Print the status of a run."""
        found = self._follow(run_id, prints=not as_json) if watch else self.runs.find(run_id)
        status = self.status_of(found)
        if as_json:
            print_json({"run": "%s/%s" % (self.obj.flow.name, run_id), "status": status, **self.details(found)})
        else:
            # Who watches has seen the status.
            for line in (*(() if watch else (status,)), *self.detail_lines(found)):
                print_data(line)
        if watch:
            self._exit_as(found)

    def logs(self, run_id: str, options: Values) -> None:
        """Print what the tasks of a run have written."""
        for source, line in self.log_lines(run_id, options["step"]):
            print_data("%s: %s" % (source, line))

    def change(self, verb: str, run_id: str, authorize: str | None) -> None:
        """Change a run."""
        getattr(self.runs, verb)(run_id, self.caller(authorize))
        self.obj.echo("Run %s %s." % (run_id, self.done[verb]), bold=True)

    def delete(self, authorize: str | None, options: Values) -> None:
        """Delete the deployment."""
        self.runs.delete(self.caller(authorize))
        self.obj.echo("%s *%s* is deleted." % (self.what, self.name()), bold=True)

    def deployments(self, flow: str | None, *, as_json: bool) -> None:
        """Print the deployments of a flow."""
        found = self.deployed(flow)
        if as_json:
            print_json(list(found))
            return
        for name in found:
            print_data(name)

    def _follow(self, run_id: str, *, prints: bool, unknown_seconds: float = 0.0) -> Any:
        """Return a run as soon as it has ended; print each new status until then."""
        shown, end = None, time.monotonic() + unknown_seconds
        while True:
            try:
                found = self.runs.find(run_id)
            except InvalidOptionError:
                if shown is not None or time.monotonic() >= end:
                    raise
                time.sleep(WATCH_SECONDS)
                continue
            status = self.status_of(found)
            if prints and status != shown:
                print_data(status)
                shown = status
            if status not in self.going_on:
                return found
            time.sleep(WATCH_SECONDS)

    def _exit_as(self, found: Any) -> None:
        if self.status_of(found) != self.succeeded:
            sys.exit(1)
