"""What can be done with a deployed flow: ``python flow.py argo trigger``, ``status``, ``terminate`` and so on."""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from metaflow import current, parameters
from metaflow._vendor import click
from metaflow.metaflow_config import ARGO_WORKFLOWS_UI_URL
from metaflow.util import get_username

from .argo_cli import adapter, argo, plain_errors
from .options import (
    AUTHORIZE,
    JSON,
    RESUME,
    RUN_ID,
    STARTED,
    WATCH,
    WATCH_SECONDS,
    GivenOptions,
    OptionalParameters,
    add_options,
    following_steps,
    given_texts,
    known_token,
    origin_of,
    print_data,
    print_json,
    stored_texts,
    tell_started,
    watch,
)

if TYPE_CHECKING:
    from metaflow_adapters.argo.runs.runs import ArgoRuns, Caller


_GOING_ON = ("Pending", "Running", "Suspended")


def _runs(obj: Any) -> ArgoRuns:
    made: ArgoRuns = adapter("runs.runs").ArgoRuns(obj.argo_cluster, obj.argo_name.name, obj.flow.name)
    return made


def _caller(obj: Any, authorize: str | None) -> Caller:
    caller: Caller = adapter("runs.runs").Caller(
        flow=obj.flow.name,
        user=get_username(),
        project=current.get("project_name"),
        branch=current.get("branch_name"),
        token=known_token(obj.argo_name.token_prefix, authorize),
    )
    return caller


@parameters.add_custom_parameters(deploy_mode=False)
@argo.command(cls=GivenOptions, help="Start a run of the deployed flow.")
@add_options(STARTED)
@click.pass_obj
@plain_errors
def trigger(obj: Any, **options: Any) -> None:
    _tell_started(obj, options, _runs(obj).start(given_texts(obj, options)))


@parameters.add_custom_parameters(deploy_mode=False)
@argo.command(
    cls=OptionalParameters,
    help="Start a run that takes over what another has finished; what had failed runs again. Parameters that are "
    "given count in each step that runs; all others are those of the other run.",
)
@add_options(RESUME)
@AUTHORIZE
@add_options(STARTED)
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
    origin = origin_of(obj, run_id, origin_run_id)
    rerun = following_steps(obj, step_to_rerun) if step_to_rerun else ()
    given = given_texts(obj, options)
    started = _runs(obj).resume(
        origin, _caller(obj, authorize), rerun, given, stored=partial(stored_texts, obj, origin)
    )
    _tell_started(obj, options, started)


def _tell_started(obj: Any, options: dict[str, Any], run_id: str) -> None:
    tell_started(obj, options, obj.argo_name.name, "Argo Workflows", run_id)
    if ARGO_WORKFLOWS_UI_URL:
        where = (ARGO_WORKFLOWS_UI_URL.rstrip("/"), obj.argo_cluster.namespace, run_id.removeprefix("argo-"))
        obj.echo("See the run in the Argo Workflows UI at %s/workflows/%s/%s" % where)
    if options["wait"]:
        _watch(obj, run_id)


def _watch(obj: Any, run_id: str) -> None:
    runs, status_of = _runs(obj), adapter("runs.runs").status_of
    watch(lambda: str(status_of(runs.find(run_id))), _GOING_ON, "Succeeded")


@argo.command(help="Show the status of a run.")
@RUN_ID
@WATCH
@JSON
@click.pass_obj
@plain_errors
def status(obj: Any, run_id: str, watch: bool, as_json: bool) -> None:
    if watch and not as_json:
        _watch(obj, run_id)
        return
    runs, status_of = _runs(obj), adapter("runs.runs").status_of
    found = str(status_of(runs.find(run_id)))
    while watch and found in _GOING_ON:
        time.sleep(WATCH_SECONDS)
        found = str(status_of(runs.find(run_id)))
    if as_json:
        print_json({"run": "%s/%s" % (obj.flow.name, run_id), "status": found})
    else:
        print_data(found)
    if watch and found != "Succeeded":
        sys.exit(1)


@argo.command(help="Show the runs of the deployed flow, the newest first.")
@JSON
@click.pass_obj
@plain_errors
def list_runs(obj: Any, as_json: bool) -> None:
    found = _runs(obj).every()
    if as_json:
        keys = ("run", "status", "created")
        flow = obj.flow.name
        print_json([dict(zip(keys, ("%s/%s" % (flow, one[0]), *one[1:]), strict=True)) for one in found])
        return
    for run_id, state, created in found:
        print_data("%s  %-10s %s" % (created, state, run_id))


@argo.command(help="Show the logs of a run's pods.")
@RUN_ID
@click.option("--step", default=None, help="Of this step only.")
@click.pass_obj
@plain_errors
def logs(obj: Any, run_id: str, step: str | None) -> None:
    for node, text in _runs(obj).logs(run_id, step):
        for line in text.splitlines():
            print_data("%s: %s" % (node, line))


def _add_change(verb: str, text: str, done: str) -> None:
    """Add a verb that changes a run."""

    @argo.command(verb, help=text)
    @RUN_ID
    @AUTHORIZE
    @click.pass_obj
    @plain_errors
    def change(obj: Any, run_id: str, authorize: str | None) -> None:
        getattr(_runs(obj), verb)(run_id, _caller(obj, authorize))
        obj.echo("Run %s %s." % (run_id, done), bold=True)


_add_change("terminate", "End a run.", "is terminated")
_add_change("suspend", "Start no further tasks of a run.", "is suspended")
_add_change("unsuspend", "Go on with a suspended run.", "goes on")


@argo.command(help="Delete the flow on Argo Workflows: template, schedule and sensor.")
@AUTHORIZE
@click.pass_obj
@plain_errors
def delete(obj: Any, authorize: str | None) -> None:
    _runs(obj).delete(_caller(obj, authorize))
    obj.echo("Workflow *%s* is deleted." % obj.argo_name.name, bold=True)


@argo.command(help="Show the workflow templates that hold this flow.")
@click.option("--all", "all_flows", is_flag=True, help="Or any other flow.")
@JSON
@click.pass_obj
@plain_errors
def list_workflow_templates(obj: Any, all_flows: bool, as_json: bool) -> None:
    found = adapter("runs.runs").deployed_templates(obj.argo_cluster, None if all_flows else obj.flow.name)
    if as_json:
        print_json(list(found))
        return
    for name in found:
        print_data(name)
