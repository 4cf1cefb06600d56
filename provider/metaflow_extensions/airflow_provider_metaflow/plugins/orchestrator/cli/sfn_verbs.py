"""What can be done with a deployed flow: ``python flow.py sfn trigger``, ``status``, ``terminate`` and so on."""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from metaflow import parameters
from metaflow._vendor import click
from metaflow.util import get_username

from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task import machine_task

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
    change_parameters,
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
from .sfn_cli import adapter, plain_errors, sfn

if TYPE_CHECKING:
    from metaflow_adapters.step_functions.runs.runs import Caller, SfnRuns

_GOING_ON = ("RUNNING", "PENDING_REDRIVE")
_STATES = ("running", "succeeded", "failed", "timed-out", "aborted")


def _runs(obj: Any) -> SfnRuns:
    made: SfnRuns = adapter("runs.runs").SfnRuns(obj.aws, obj.sfn_name.name, obj.flow.name)
    return made


def _caller(obj: Any, authorize: str | None) -> Caller:
    token = known_token(obj.sfn_name.token_prefix, authorize)
    caller: Caller = adapter("runs.runs").Caller(user=get_username(), token=token)
    return caller


@parameters.add_custom_parameters(deploy_mode=False)
@sfn.command(cls=GivenOptions, help="Start a run of the deployed flow.")
@add_options(STARTED)
@click.pass_obj
@plain_errors
def trigger(obj: Any, **options: Any) -> None:
    _tell_started(obj, options, _runs(obj).start(given_texts(obj, options)))


@parameters.add_custom_parameters(deploy_mode=False)
@sfn.command(
    cls=OptionalParameters,
    help="Start a run that takes over what another has finished; what had failed runs again. Parameters that are "
    "given count in each step that runs; all others are those of the other run.",
)
@click.option("--redrive", is_flag=True, default=False,
              help="Go on with the same run at the states that failed, as AWS allows for 14 days.")  # fmt: skip
@add_options(RESUME)
@AUTHORIZE
@add_options(STARTED)
@click.pass_obj
@plain_errors
def resume(
    obj: Any,
    run_id: str | None,
    origin_run_id: str | None,
    redrive: bool,
    step_to_rerun: str | None,
    authorize: str | None,
    **options: Any,
) -> None:
    from metaflow_orchestration.exceptions import InvalidOptionError

    if redrive and step_to_rerun:
        raise InvalidOptionError(
            "--redrive goes on where the run failed, and cannot run a step again.", flow=obj.flow.name
        )
    origin, given = origin_of(obj, run_id, origin_run_id), given_texts(obj, options)
    runs, caller = _runs(obj), _caller(obj, authorize)
    if redrive:
        if given:
            # AWS keeps the input of the execution, which the first step alone reads.
            runs.check_ended(origin, caller)
            change_parameters(obj, origin, options, given)
            _note_change(obj, origin)
        _tell_started(obj, options, runs.redrive(origin, caller))
        return
    rerun = following_steps(obj, step_to_rerun) if step_to_rerun else ()
    started = runs.resume(origin, caller, rerun, given, stored=partial(stored_texts, obj, origin))
    _tell_started(obj, options, started)


def _note_change(obj: Any, run_id: str) -> None:
    """Tell the jobs of a run that its parameters are others than those that its first tasks have seen."""
    storage = obj.flow_datastore._storage_impl
    path = "%s/%s/%s/record" % (adapter("emit.documents").FOLDER, obj.flow.name, run_id)
    record = {**(machine_task.load(storage, path) or {}), "changed": True}
    machine_task.save(storage, path, record)


def _tell_started(obj: Any, options: dict[str, Any], run_id: str) -> None:
    tell_started(obj, options, obj.sfn_name.name, "AWS Step Functions", run_id)
    if options["wait"]:
        runs = _runs(obj)
        watch(lambda: str(runs.find(run_id)["status"]), _GOING_ON, "SUCCEEDED")


@sfn.command(help="Show the status of a run, and why it failed.")
@RUN_ID
@WATCH
@JSON
@click.pass_obj
@plain_errors
def status(obj: Any, run_id: str, watch: bool, as_json: bool) -> None:
    runs = _runs(obj)
    found = runs.find(run_id)
    while watch and found["status"] in _GOING_ON:
        time.sleep(WATCH_SECONDS)
        found = runs.find(run_id)
    if as_json:
        document = {"run": "%s/%s" % (obj.flow.name, run_id), "status": found["status"]}
        told = {name: found[name] for name in ("error", "cause") if found.get(name)}
        splits = list(runs.map_lines(found))
        print_json({**document, **told, **({"splits": splits} if splits else {})})
    else:
        _print_status(runs, found)
    if watch and found["status"] != "SUCCEEDED":
        sys.exit(1)


def _print_status(runs: SfnRuns, found: dict[str, Any]) -> None:
    print_data(found["status"])
    for name in ("error", "cause"):
        if found.get(name):
            print_data("%s: %s" % (name, found[name]))
    for line in runs.map_lines(found):
        print_data(line)


@sfn.command(help="Show the runs of the deployed flow, the newest first.")
@JSON
@add_options([click.option("--%s" % one, is_flag=True, default=False, help="Runs of this status.") for one in _STATES])
@click.pass_obj
@plain_errors
def list_runs(obj: Any, as_json: bool, **asked: bool) -> None:
    statuses = [name.upper() for name, wanted in asked.items() if wanted]
    found = list(_runs(obj).every(statuses))
    if as_json:
        print_json([_run_document(obj.flow.name, one) for one in found])
        return
    for one in found:
        started = one["startDate"].replace(microsecond=0)
        stopped = " stoppedAt:'%s'" % one["stopDate"].replace(microsecond=0) if one.get("stopDate") else ""
        print_data("sfn-%s startedAt:'%s'%s %s" % (one["name"], started, stopped, one["status"]))
    if not found:
        what = " ".join([*statuses, "executions"])
        obj.echo("No %s for *%s* found on AWS Step Functions." % (what, obj.sfn_name.name))


def _run_document(flow: str, one: dict[str, Any]) -> dict[str, Any]:
    times = {
        "started": one["startDate"].isoformat(),
        "ended": one["stopDate"].isoformat() if one.get("stopDate") else None,
    }
    return {"run": "%s/sfn-%s" % (flow, one["name"]), "status": one["status"], **times}


@sfn.command(help="Show the logs of a run's jobs, from CloudWatch.")
@RUN_ID
@click.option("--step", default=None, help="Of this step only.")
@click.pass_obj
@plain_errors
def logs(obj: Any, run_id: str, step: str | None) -> None:
    for name, line in _runs(obj).logs(run_id, step):
        print_data("%s: %s" % (name, line))


@sfn.command(help="End a run.")
@RUN_ID
@AUTHORIZE
@click.pass_obj
@plain_errors
def terminate(obj: Any, run_id: str, authorize: str | None) -> None:
    _runs(obj).terminate(run_id, _caller(obj, authorize))
    obj.echo("Run %s is terminated." % run_id, bold=True)


@sfn.command(help="Delete the flow on AWS: state machine, job definitions, schedule and rules.")
@AUTHORIZE
@click.pass_obj
@plain_errors
def delete(obj: Any, authorize: str | None) -> None:
    _runs(obj).delete(_caller(obj, authorize))
    obj.echo("State machine *%s* is deleted." % obj.sfn_name.name, bold=True)


@sfn.command(help="Show the state machines that hold this flow.")
@click.option("--all", "all_flows", is_flag=True, help="Or any other flow.")
@JSON
@click.pass_obj
@plain_errors
def list_deployments(obj: Any, all_flows: bool, as_json: bool) -> None:
    found = adapter("deploy.deployments").deployed_machines(obj.aws, None if all_flows else obj.flow.name)
    if as_json:
        print_json(list(found))
        return
    for name in found:
        print_data(name)
