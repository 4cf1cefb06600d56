"""What ``python flow.py airflow trigger``, ``status``, ``terminate`` and so on do, through Airflow's REST API."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property, partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from metaflow.exception import MetaflowException
from metaflow.plugins.aws.step_functions.production_token import load_token
from metaflow.util import get_username

from airflow_provider_metaflow.deploy import dag_file
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.messages import print_json, write_run_id
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.resumed_runs import change_parameters
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.target import ResumeRequest, Values
from metaflow_orchestration.compile.configuration import metaflow_value

from .conf import given_parameters, stored_conf

if TYPE_CHECKING:
    # `create` loads this module, too, and must not wait 0.1 s for an HTTP client that it does not use.
    from airflow_provider_metaflow.rest.client import AirflowClient
    from airflow_provider_metaflow.rest.deployment import Caller, DeployedDag
    from airflow_provider_metaflow.rest.runs import DagRun, PlannedRun

_STATES = {"queued": "pending", "running": "running", "success": "succeeded", "failed": "failed"}
"""Options of ``list-runs`` by the state of Airflow that they choose."""


def connect() -> AirflowClient:
    """Return a client of the Airflow that Metaflow's configuration names."""
    from airflow_provider_metaflow.rest.client import AirflowClient
    from airflow_provider_metaflow.rest.endpoint import configured_endpoint

    return AirflowClient(configured_endpoint(metaflow_value))


class AirflowGroupRuns:
    """The runs of a DAG, for the command group; see ``target.Runs``. Connects to Airflow when that is needed first.

    :param obj: state of Metaflow's command line.
    :param error: error of the command group.
    :param file_of: returns the DAG file, from where the user wants it.
    """

    def __init__(self, obj: Any, error: type[MetaflowException], file_of: Callable[[str | None], Any]) -> None:
        self.obj, self._error, self._file_of = obj, error, file_of
        self._name: str = obj.airflow_name.name
        self._stack = ExitStack()
        self._started: tuple[DeployedDag, PlannedRun, DagRun] | None = None

    def __enter__(self) -> AirflowGroupRuns:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @cached_property
    def _client(self) -> AirflowClient:
        return self._stack.enter_context(connect())

    @cached_property
    def _deployed(self) -> DeployedDag:
        from airflow_provider_metaflow.rest import deployment

        return deployment.open_deployment(self._client, self._name, self.obj.flow.name)

    def start(self, options: Values) -> str:
        """Start a DAG run."""
        return self._start(given_parameters(self.obj, options), options)

    def resume(self, request: ResumeRequest) -> str | None:
        """Start a DAG run that clones results of another one, or clear tasks of that one."""
        if (request.run_id is None) == (request.origin_run_id is None):
            raise self._error("Give either RUN_ID, to resume it in place, or --origin-run-id, to start a new run.")
        given, options = given_parameters(self.obj, request.options), request.options
        deployed = self._parsed(options["wait_seconds"])
        deployed.authorize(self._caller(request.authorize))
        if request.run_id is not None:
            self._resume_in_place(deployed, request.run_id, request.step_to_rerun, given, options)
            return None
        origin, stored = str(request.origin_run_id), partial(stored_conf, self.obj)
        return self._start(deployed.resume_conf(origin, request.step_to_rerun, given, stored=stored), options)

    def _start(self, conf: dict[str, Any], options: Values) -> str:
        deployed = self._parsed(options["wait_seconds"])
        deployed.ready(unpause=options["unpause"])
        planned = deployed.plan_run()
        # Before the run is started: Airflow may start it and its answer be lost.
        write_run_id(options, planned.run_id)
        run = deployed.start(planned, conf, logical_date=options.get("logical_date"), note=options["note"])
        self._started = deployed, planned, run
        return planned.run_id

    def _resume_in_place(
        self, deployed: DeployedDag, run_id: str, step: str | None, given: dict[str, Any], options: Values
    ) -> None:
        run = deployed.find(run_id)
        deployed.check_resumable(run, step)
        if given:
            change_parameters(self.obj, run.run_id, options, given)
        count = deployed.resume_in_place(run, step)
        self.obj.echo("*%d* tasks of the run *%s* run again." % (count, run.run_id), bold=True)
        if options["wait"]:
            self._watch(deployed, deployed.find(run.dag_run_id))

    def _parsed(self, timeout: float) -> DeployedDag:
        """Return the deployment as soon as Airflow has parsed what was deployed last."""
        from airflow_provider_metaflow.rest import deployment
        from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.deployer.published import (
            check_not_deleted,
            published_file,
        )

        file = published_file(self._name, self._client)
        check_not_deleted(self._client, self._name, file)
        return deployment.wait_for_deployment(
            self._client,
            self._name,
            self.obj.flow.name,
            digest=dag_file.published_digest(file),
            timeout=timeout,
            report=self.obj.echo,
        )

    def _caller(self, authorize: str | None) -> Caller:
        from airflow_provider_metaflow.rest.deployment import Caller

        return Caller(user=get_username(), token=authorize or load_token(self.obj.airflow_name.token_prefix))

    def show_link(self, run_id: str) -> None:
        """Print where Airflow's user interface has the run that was started."""
        if self._started is not None:
            deployed, planned, _ = self._started
            self.obj.echo("See the run at %s" % deployed.url(planned), fg="cyan")

    def watch(self, run_id: str) -> None:
        """Show a run until it has ended."""
        if self._started is not None:
            deployed, _, run = self._started
            self._watch(deployed, run)

    def _watch(self, deployed: DeployedDag, run: DagRun) -> None:
        from airflow_provider_metaflow.rest import show

        self._exit_as(deployed, show.status(deployed, run, watch=True))

    def _exit_as(self, deployed: DeployedDag, run: DagRun) -> None:
        """Exit with 1 unless a run has succeeded; for Airflow, one whose steps were all skipped has, too."""
        from airflow_provider_metaflow.rest.task_instances import count_states

        if run.state != "success":
            sys.exit(1)
        end = deployed.record.steps[-1]
        if not count_states(self._client, run, (end,))[end].get("success"):
            print(f"The run is a success for Airflow, but its step {end} was skipped.", file=sys.stderr)
            sys.exit(1)

    def status(self, run_id: str, *, watch: bool, as_json: bool) -> None:
        """Show how far a run is."""
        from airflow_provider_metaflow.rest import show

        run = show.status(self._deployed, self._deployed.find(run_id), watch=watch, quiet=as_json)
        if as_json:
            print_json(show.status_document(self._deployed, run))
        if watch:
            self._exit_as(self._deployed, run)

    def list_runs(self, options: Values, *, as_json: bool) -> None:
        """Print the DAG runs."""
        from airflow_provider_metaflow.rest import show

        states = tuple(state for state, option in _STATES.items() if options[option])
        if as_json:
            print_json(show.runs_document(self._deployed, states, options["limit"]))
        else:
            show.show_runs(self._deployed, states, options["limit"])

    def logs(self, run_id: str, options: Values) -> None:
        """Print the logs of a DAG run."""
        from airflow_provider_metaflow.rest import show

        run, every_line = self._deployed.find(run_id), options["every_line"]
        show.logs(self._deployed, run, options["step_name"], failed_only=options["failed"], every_line=every_line)

    def change(self, verb: str, run_id: str, authorize: str | None) -> None:
        """End a run, or pause its DAG."""
        self._deployed.authorize(self._caller(authorize))
        run = self._deployed.find(run_id)
        if verb == "terminate":
            self._deployed.terminate(run)
            self.obj.echo("The run *%s* was terminated." % run.run_id, bold=True)
            return
        others = self._deployed.hold(run, paused=verb == "suspend")
        done = "%sed" % verb
        self.obj.echo("The run *%s* was %s." % (run.run_id, done), bold=True)
        if others:
            # Airflow can hold a DAG, not one of its runs.
            self.obj.echo("With it %d other active runs of the DAG were %s." % (others, done), err=True)

    def delete(self, authorize: str | None, options: Values) -> None:
        """Delete the files that `create` wrote."""
        from airflow_provider_metaflow.rest import deployment
        from airflow_provider_metaflow.rest.notify import forget_secrets

        file = self._file_of(options["file"])
        manifest = dag_file.read_deployment(file, self._name, self.obj.flow.name)
        deployment.check_owner(deployment.record_of(manifest), self._name, self._caller(authorize))
        if self._is_airflow_given():
            deployment.check_idle(self._client, self._name, self.obj.flow.name)
            for line in forget_secrets(self._client, self._name, manifest.deployment.notifications):
                self.obj.echo(line)
        else:
            print("Warning: METAFLOW_AIRFLOW_URL is not set, so running runs were not looked for.", file=sys.stderr)
        for line in dag_file.remove(file):
            self.obj.echo(line)
        self.obj.echo("The deployment *%s* was deleted." % self._name, bold=True)

    def _is_airflow_given(self) -> bool:
        from airflow_provider_metaflow.rest.endpoint import configured_endpoint

        try:
            configured_endpoint(metaflow_value)
        except ValueError:
            return False
        return True

    def deployments(self, flow: str | None, *, as_json: bool) -> None:
        """Print the deployments on Airflow."""
        from airflow_provider_metaflow.rest import show

        if as_json:
            print_json(show.deployments_document(self._client, flow))
        else:
            show.deployments(self._client, flow)
