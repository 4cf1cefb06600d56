"""Makes the verbs of a deployed flow: ``trigger``, ``resume``, ``status``, ``list-runs``, ``delete`` and so on."""

from __future__ import annotations

from typing import Any

from metaflow import parameters
from metaflow._vendor import click

from .messages import report_started
from .options import AUTHORIZE, JSON, RUN_ID, add_options, plain_errors_of
from .parameters import GivenOptions, OptionalParameters
from .target import ResumeRequest, Runs, Target, Values

CHANGES = ("terminate", "suspend", "unsuspend")
"""Verbs that change a run; not every orchestrator can suspend one."""


def add_run_verbs(group: Any, target: Target) -> None:
    """Add the verbs that the options of an orchestrator name.

    :param group: its command group.
    :param target: the orchestrator.
    """
    for add in (_add_trigger, _add_resume, _add_status, _add_list_runs, _add_logs, _add_delete, _add_deployments):
        add(group, target)
    for verb in CHANGES:
        if verb in target.options.verbs:
            _add_change(group, target, verb)


def _report(target: Target, runs: Runs, obj: Any, options: Values, run_id: str) -> None:
    report_started(obj, options, target, run_id)
    runs.show_link(run_id)
    if options["wait"]:
        runs.watch(run_id)


def _add_trigger(group: Any, target: Target) -> None:
    verb = target.options.verbs["trigger"]

    @parameters.add_custom_parameters(deploy_mode=False)
    @group.command("trigger", cls=GivenOptions, help=verb.help)
    @add_options(verb.options)
    @click.pass_obj
    @plain_errors_of(target.error)
    def trigger(obj: Any, **options: Any) -> None:
        with target.runs(obj) as runs:
            _report(target, runs, obj, options, runs.start(options))


def _add_resume(group: Any, target: Target) -> None:
    verb = target.options.verbs["resume"]

    @parameters.add_custom_parameters(deploy_mode=False)
    @group.command("resume", cls=OptionalParameters, help=verb.help)
    @add_options(verb.options)
    @click.pass_obj
    @plain_errors_of(target.error)
    def resume(
        obj: Any,
        run_id: str | None,
        origin_run_id: str | None,
        step_to_rerun: str | None,
        authorize: str | None,
        **options: Any,
    ) -> None:
        with target.runs(obj) as runs:
            started = runs.resume(ResumeRequest(run_id, origin_run_id, step_to_rerun, authorize, options))
            if started is not None:
                _report(target, runs, obj, options, started)


def _add_status(group: Any, target: Target) -> None:
    verb = target.options.verbs["status"]

    @group.command("status", help=verb.help)
    @RUN_ID
    @add_options(verb.options)
    @JSON
    @click.pass_obj
    @plain_errors_of(target.error)
    def status(obj: Any, run_id: str, watch: bool, as_json: bool) -> None:
        with target.runs(obj) as runs:
            runs.status(run_id, watch=watch, as_json=as_json)


def _add_list_runs(group: Any, target: Target) -> None:
    verb = target.options.verbs["list-runs"]

    @group.command("list-runs", help=verb.help)
    @add_options(verb.options)
    @click.pass_obj
    @plain_errors_of(target.error)
    def list_runs(obj: Any, as_json: bool, **options: Any) -> None:
        with target.runs(obj) as runs:
            runs.list_runs(options, as_json=as_json)


def _add_logs(group: Any, target: Target) -> None:
    verb = target.options.verbs["logs"]

    @group.command("logs", help=verb.help)
    @RUN_ID
    @add_options(verb.options)
    @click.pass_obj
    @plain_errors_of(target.error)
    def logs(obj: Any, run_id: str, **options: Any) -> None:
        with target.runs(obj) as runs:
            runs.logs(run_id, options)


def _add_change(group: Any, target: Target, verb: str) -> None:
    @group.command(verb, help=target.options.verbs[verb].help)
    @RUN_ID
    @AUTHORIZE
    @click.pass_obj
    @plain_errors_of(target.error)
    def change(obj: Any, run_id: str, authorize: str | None) -> None:
        with target.runs(obj) as runs:
            runs.change(verb, run_id, authorize)


def _add_delete(group: Any, target: Target) -> None:
    verb = target.options.verbs["delete"]

    @group.command("delete", help=verb.help)
    @add_options([*verb.options, AUTHORIZE])
    @click.pass_obj
    @plain_errors_of(target.error)
    def delete(obj: Any, authorize: str | None, **options: Any) -> None:
        with target.runs(obj) as runs:
            runs.delete(authorize, options)


def _add_deployments(group: Any, target: Target) -> None:
    name = target.options.listing
    verb = target.options.verbs[name]

    @group.command(name, help=verb.help)
    @add_options(verb.options)
    @JSON
    @click.pass_obj
    @plain_errors_of(target.error)
    def list_deployments(obj: Any, all_flows: bool, as_json: bool) -> None:
        with target.runs(obj) as runs:
            runs.deployments(None if all_flows else obj.flow.name, as_json=as_json)
