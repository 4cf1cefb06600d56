"""What can be done with a deployed flow: ``python flow.py argo trigger``, ``status``, ``terminate`` and so on."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from metaflow import current, parameters
from metaflow._vendor import click
from metaflow.metaflow_config import ARGO_WORKFLOWS_UI_URL
from metaflow.util import get_username

from .argo_cli import adapter, argo, plain_errors
from .options import (
    AUTHORIZE,
    RESUME,
    RUN_ID,
    STARTED,
    GivenOptions,
    OptionalParameters,
    add_options,
    following_steps,
    given_texts,
    known_token,
    origin_of,
    print_data,
    stored_texts,
    tell_started,
)

if TYPE_CHECKING:
    from metaflow_adapters.argo.runs import ArgoRuns, Caller


def _runs(obj: Any) -> ArgoRuns:
    made: ArgoRuns = adapter("runs").ArgoRuns(obj.argo_cluster, obj.argo_name.name, obj.flow.name)
    return made


def _caller(obj: Any, authorize: str | None) -> Caller:
    caller: Caller = adapter("runs").Caller(
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


@argo.command(help="Show the status of a run.")
@RUN_ID
@click.pass_obj
@plain_errors
def status(obj: Any, run_id: str) -> None:
    print_data(adapter("runs").status_of(_runs(obj).find(run_id)))


@argo.command(help="Show the runs of the deployed flow, the newest first.")
@click.pass_obj
@plain_errors
def list_runs(obj: Any) -> None:
    for run_id, state, created in _runs(obj).every():
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
@click.pass_obj
@plain_errors
def list_workflow_templates(obj: Any, all_flows: bool) -> None:
    for name in adapter("runs").deployed_templates(obj.argo_cluster, None if all_flows else obj.flow.name):
        print_data(name)
