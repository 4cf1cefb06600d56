"""The verbs of ``python flow.py airflow`` that talk to a deployed flow through Airflow's REST API."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from metaflow import parameters
from metaflow._vendor import click
from metaflow.plugins.aws.step_functions.production_token import load_token
from metaflow.util import get_username

from airflow_provider_metaflow.deploy import dag_file
from metaflow_orchestration.compile.configuration import metaflow_value

from .airflow_cli import (
    AirflowError,
    airflow,
    given_parameters,
    plain_errors,
    stored_conf,
    target_of,
)
from .options import (
    AUTHORIZE,
    JSON,
    RUN_ID,
    GivenOptions,
    OptionalParameters,
    add_options,
    change_parameters,
    print_json,
    write_attributes,
)

if TYPE_CHECKING:
    # `create` loads this module, too, and must not wait 0.1 s for an HTTP client that it does not use.
    from airflow_provider_metaflow.rest.client import AirflowClient
    from airflow_provider_metaflow.rest.deployment import Caller, DeployedDag
    from airflow_provider_metaflow.rest.runs import DagRun


def _client() -> AirflowClient:
    from airflow_provider_metaflow.rest.client import AirflowClient
    from airflow_provider_metaflow.rest.endpoint import configured_endpoint

    return AirflowClient(configured_endpoint(metaflow_value))


def _caller(obj: Any, authorize: str | None = None) -> Caller:
    from airflow_provider_metaflow.rest.deployment import Caller

    return Caller(user=get_username(), token=authorize or load_token(obj.airflow_name.token_prefix))


def _parsed(obj: Any, client: AirflowClient, timeout: float) -> DeployedDag:
    """Return the deployment as soon as Airflow has parsed what was deployed last."""
    from airflow_provider_metaflow.rest import deployment
    from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.deployer.published import (
        check_not_deleted,
        published_file,
    )

    name = obj.airflow_name.name
    file = published_file(name, client)
    check_not_deleted(client, name, file)
    return deployment.wait_for_deployment(
        client, name, obj.flow.name, digest=dag_file.published_digest(file), timeout=timeout, tell=obj.echo
    )


def _deployed(obj: Any, client: AirflowClient) -> DeployedDag:
    from airflow_provider_metaflow.rest import deployment

    return deployment.open_deployment(client, obj.airflow_name.name, obj.flow.name)


_TRIGGER_OPTIONS = add_options([
    click.option("--run-id-file", default=None, type=str, help="Write the id of this run to the file specified."),
    click.option("--note", default=None, type=str, help="Note that Airflow shows beside the run."),
    click.option("--unpause", is_flag=True, help="Unpause the DAG if it is paused."),
    click.option("--wait", is_flag=True, help="Wait for the end of the run; exit with 1 if it failed."),
    click.option("--parse-timeout", "wait_seconds", default=300, show_default=True, type=int,
                 help="Seconds to wait for Airflow to parse a DAG that was just deployed."),
    click.option("--deployer-attribute-file", default=None, hidden=True,
                 help="Write metadata and pathspec of this run to this file. Used by Metaflow's Deployer API."),
])  # fmt: skip


@parameters.add_custom_parameters(deploy_mode=False)
@airflow.command(cls=GivenOptions, help="Start a run of the deployed flow.")
@click.option(
    "--logical-date", default=None, type=str, help="Logical date of the run, in ISO form, e.g. 2026-01-31T00:00:00Z."
)
@_TRIGGER_OPTIONS
@click.pass_obj
@plain_errors
def trigger(obj: Any, logical_date: str | None, **options: Any) -> None:
    _start(obj, options, given_parameters(obj, options), logical_date=logical_date)


def _start(obj: Any, options: dict[str, Any], conf: dict[str, Any], *, logical_date: str | None = None) -> None:
    with _client() as client:
        deployed = _parsed(obj, client, options["wait_seconds"])
        deployed.ready(unpause=options["unpause"])
        planned = deployed.plan_run()
        if options["run_id_file"]:
            with open(options["run_id_file"], "w", encoding="utf-8") as file:
                file.write(planned.run_id)
        run = deployed.start(planned, conf, logical_date=logical_date, note=options["note"])
        write_attributes(
            options["deployer_attribute_file"],
            name=obj.airflow_name.name,
            metadata=obj.metadata.metadata_str(),
            pathspec=f"{obj.flow.name}/{planned.run_id}",
        )
        obj.echo("DAG *%s* triggered on Airflow (run-id *%s*)." % (obj.airflow_name.name, planned.run_id), bold=True)
        obj.echo("See the run at %s" % deployed.url(planned), fg="cyan")
        if options["wait"]:
            _watch(client, deployed, run)


def _watch(client: AirflowClient, deployed: DeployedDag, run: DagRun) -> None:
    """Show a run until it has ended, and exit with 1 if it failed: for scripts, as `run` does."""
    from airflow_provider_metaflow.rest import show

    _exit_as(client, deployed, show.status(deployed, run, watch=True))


def _exit_as(client: AirflowClient, deployed: DeployedDag, run: DagRun) -> None:
    """Exit with 1 unless a run has succeeded; for Airflow, one whose steps were all skipped has, too."""
    from airflow_provider_metaflow.rest.runs import count_states

    if run.state != "success":
        sys.exit(1)
    end = deployed.record.steps[-1]
    if not count_states(client, run, (end,))[end].get("success"):
        print(f"The run is a success for Airflow, but its step {end} was skipped.", file=sys.stderr)
        sys.exit(1)


@airflow.command(help="Show how far a run is, step by step.")
@RUN_ID
@click.option("--watch", is_flag=True, help="Keep showing until the run has ended; exit with 1 if it failed.")
@JSON
@click.pass_obj
@plain_errors
def status(obj: Any, run_id: str, watch: bool, as_json: bool) -> None:
    from airflow_provider_metaflow.rest import show

    with _client() as client:
        deployed = _deployed(obj, client)
        run = show.status(deployed, deployed.find(run_id), watch=watch, quiet=as_json)
        if as_json:
            print_json(show.status_document(deployed, run))
        if watch:
            _exit_as(client, deployed, run)


@airflow.command("list-runs", help="List the runs of the deployed flow, the newest first.")
@click.option("--pending", is_flag=True, help="List runs that wait to start.")
@click.option("--running", is_flag=True, help="List runs that are going on.")
@click.option("--succeeded", is_flag=True, help="List runs that succeeded.")
@click.option("--failed", is_flag=True, help="List runs that failed.")
@click.option("--limit", default=20, show_default=True, type=int, help="How many runs to list.")
@JSON
@click.pass_obj
@plain_errors
def list_runs(obj: Any, pending: bool, running: bool, succeeded: bool, failed: bool, limit: int, as_json: bool) -> None:
    from airflow_provider_metaflow.rest import show

    chosen = {"queued": pending, "running": running, "success": succeeded, "failed": failed}
    with _client() as client:
        deployed = _deployed(obj, client)
        states = tuple(state for state, wanted in chosen.items() if wanted)
        if as_json:
            print_json(show.runs_document(deployed, states, limit))
        else:
            show.show_runs(deployed, states, limit)


@airflow.command(help="Print what the steps of a run have written, and their errors.")
@RUN_ID
@click.option("--all", "every_line", is_flag=True, help="Print the lines of Airflow, too.")
@click.option("--step", "step_name", default=None, type=str, help="Only of this step.")
@click.option("--failed", is_flag=True, help="Only of tasks that failed.")
@click.pass_obj
@plain_errors
def logs(obj: Any, run_id: str, step_name: str | None, failed: bool, every_line: bool) -> None:
    from airflow_provider_metaflow.rest import show

    with _client() as client:
        deployed = _deployed(obj, client)
        show.logs(deployed, deployed.find(run_id), step_name, failed_only=failed, every_line=every_line)


@airflow.command(help="End a run: its running tasks are killed and the run counts as failed.")
@RUN_ID
@AUTHORIZE
@click.pass_obj
@plain_errors
def terminate(obj: Any, run_id: str, authorize: str | None) -> None:
    with _client() as client:
        deployed = _deployed(obj, client)
        deployed.authorize(_caller(obj, authorize))
        run = deployed.find(run_id)
        deployed.terminate(run)
        obj.echo("The run *%s* was terminated." % run.run_id, bold=True)


@airflow.command(help="Pause the DAG of a run: running tasks end, no further task starts. Holds all its runs.")
@RUN_ID
@AUTHORIZE
@click.pass_obj
@plain_errors
def suspend(obj: Any, run_id: str, authorize: str | None) -> None:
    _hold(obj, run_id, authorize, paused=True)


@airflow.command(help="Unpause the DAG of a run, so that its runs go on.")
@RUN_ID
@AUTHORIZE
@click.pass_obj
@plain_errors
def unsuspend(obj: Any, run_id: str, authorize: str | None) -> None:
    _hold(obj, run_id, authorize, paused=False)


def _hold(obj: Any, run_id: str, authorize: str | None, *, paused: bool) -> None:
    with _client() as client:
        deployed = _deployed(obj, client)
        deployed.authorize(_caller(obj, authorize))
        run = deployed.find(run_id)
        others = deployed.hold(run, paused=paused)
        done = "suspended" if paused else "unsuspended"
        obj.echo("The run *%s* was %s." % (run.run_id, done), bold=True)
        if others:
            # Airflow can hold a DAG, not one of its runs.
            obj.echo("With it %d other active runs of the DAG were %s." % (others, done), err=True)


@parameters.add_custom_parameters(deploy_mode=False)
@airflow.command(
    cls=OptionalParameters,
    help="Run the failed tasks of RUN_ID again, or a step and all after it, in place; or, with --origin-run-id, start "
    "a run that takes over the finished tasks of another one and runs the rest with the code that is deployed now. "
    "Parameters that are given count in each step that runs.",
)
@click.argument("run-id", required=False, type=str)
@click.option("--origin-run-id", default=None, type=str, help="Run whose finished tasks a new run takes over.")
@click.option("--step-to-rerun", default=None, type=str, help="Run this step and all after it again.")
@AUTHORIZE
@_TRIGGER_OPTIONS
@click.pass_obj
@plain_errors
def resume(
    obj: Any,
    run_id: str | None,
    origin_run_id: str | None,
    step_to_rerun: str | None,
    authorize: str | None,
    **options: Any,
) -> None:
    if (run_id is None) == (origin_run_id is None):
        raise AirflowError("Give either RUN_ID, to go on with it in place, or --origin-run-id, to start a new run.")
    given = given_parameters(obj, options)
    with _client() as client:
        deployed = _parsed(obj, client, options["wait_seconds"])
        deployed.authorize(_caller(obj, authorize))
        if run_id is None:
            stored = partial(stored_conf, obj)
            conf = deployed.resume_conf(str(origin_run_id), step_to_rerun, given, stored=stored)
        else:
            run = deployed.find(run_id)
            deployed.check_resumable(run, step_to_rerun)
            if given:
                change_parameters(obj, run.run_id, options, given)
            count = deployed.resume_in_place(run, step_to_rerun)
            obj.echo("*%d* tasks of the run *%s* run again." % (count, run.run_id), bold=True)
            if options["wait"]:
                _watch(client, deployed, deployed.find(run.dag_run_id))
            return
    _start(obj, options, conf)


@airflow.command(help="Delete the deployment: the files that `create` wrote. Runs and results stay.")
@click.argument("file", required=False)
@AUTHORIZE
@click.pass_obj
@plain_errors
def delete(obj: Any, file: str | None, authorize: str | None) -> None:
    from airflow_provider_metaflow.rest import deployment
    from airflow_provider_metaflow.rest.client import AirflowClient
    from airflow_provider_metaflow.rest.endpoint import configured_endpoint
    from airflow_provider_metaflow.rest.notify import forget_secrets

    target = target_of(obj, file)
    endpoint_given = True
    caller = _caller(obj, authorize)
    manifest = dag_file.read_deployment(target, obj.airflow_name.name, obj.flow.name)
    deployment.check_owner(deployment.record_of(manifest), obj.airflow_name.name, caller)
    try:
        endpoint = configured_endpoint(metaflow_value)
    except ValueError:
        endpoint_given = False
    if endpoint_given:
        with AirflowClient(endpoint) as client:
            deployment.check_idle(client, obj.airflow_name.name, obj.flow.name)
            for line in forget_secrets(client, obj.airflow_name.name, manifest.deployment.notifications):
                obj.echo(line)
    else:
        print("Warning: METAFLOW_AIRFLOW_URL is not set, so running runs were not looked for.", file=sys.stderr)
    for line in dag_file.remove(target):
        obj.echo(line)
    obj.echo("The deployment *%s* was deleted." % obj.airflow_name.name, bold=True)


@airflow.command("list-deployments", help="List the deployments of this flow on Airflow.")
@click.option("--all", "all_flows", is_flag=True, help="List the deployments of all flows.")
@JSON
@click.pass_obj
@plain_errors
def list_deployments(obj: Any, all_flows: bool, as_json: bool) -> None:
    from airflow_provider_metaflow.rest import show

    with _client() as client:
        flow = None if all_flows else obj.flow.name
        if as_json:
            print_json(show.deployments_document(client, flow))
        else:
            show.deployments(client, flow)
