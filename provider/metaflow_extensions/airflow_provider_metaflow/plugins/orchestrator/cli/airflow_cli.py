"""``python flow.py airflow …``: deploy a flow to Airflow 3. Loaded only when the group is used."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from metaflow import parameters
from metaflow._vendor import click
from metaflow.exception import MetaflowException
from metaflow.metaflow_config_funcs import from_conf

from airflow_provider_metaflow.deploy import dag_file
from airflow_provider_metaflow.plan.rules import check_deployable, check_rules
from metaflow_orchestration.compile.deployment.deploy import DeployOptions, compile_manifest, resolve_name
from metaflow_orchestration.compile.deployment.reachable import check_reachable
from metaflow_orchestration.compile.deployment.tokens import PLACEHOLDER_TOKEN, TokenOptions, resolve_token
from metaflow_orchestration.compile.reading.container_settings import secret_warnings
from metaflow_orchestration.documents.manifest import Manifest, Notifications, encode_manifest, write_atomically

from .check_verb import CHECK, show_check
from .options import (
    ALERTS,
    CREATED,
    NAMESPACE,
    NOTIFY_WHEN,
    PROJECT_ROOT,
    GivenOptions,
    add_options,
    command_of,
    parameter_value,
    plain_errors_of,
    report_namespace,
    stored_values,
    token_options,
    write_attributes,
)
from .verb_help import Verbs


class AirflowError(MetaflowException):
    headline = "Airflow"


plain_errors = plain_errors_of(AirflowError)

_API_VARIABLES = (
    ("METAFLOW_AIRFLOW_URL", "Address of Airflow's API server."),
    ("METAFLOW_AIRFLOW_USERNAME, …_PASSWORD", "User to log in as; or one of the next two."),
    ("METAFLOW_AIRFLOW_TOKEN", "Bearer token."),
    ("METAFLOW_AIRFLOW_AUTH_COMMAND", "Command that prints a bearer token."),
    ("METAFLOW_AIRFLOW_VERIFY", "Whether TLS certificates are checked.  [default: true]"),
    ("METAFLOW_AIRFLOW_CA_FILE", "File of certificates to trust."),
    ("METAFLOW_AIRFLOW_PATIENCE", "Seconds for which a request is tried again.  [default: 60]"),
)
_FOLDER_VARIABLE = ("METAFLOW_AIRFLOW_DAGS_FOLDER", "Where DAG files go: a folder, or s3://… or gs://….")
_VARIABLES = {
    "": _API_VARIABLES,
    # The API only for notifications, whose secrets become connections of Airflow.
    "create": (_FOLDER_VARIABLE, *_API_VARIABLES),
    "delete": (_FOLDER_VARIABLE, *_API_VARIABLES),
    "test": (("METAFLOW_DATASTORE_SYSROOT_LOCAL", "Folder that the results go to."),),
}


@click.group(cls=Verbs, variables=_VARIABLES, help="Commands related to Airflow.")
@click.option("--name", default=None, type=str, help="Airflow DAG id. The flow name is used by default.")
@click.pass_obj
@plain_errors
def airflow(obj: Any, name: str | None = None) -> None:
    obj.check(obj.graph, obj.flow, obj.environment, pylint=obj.pylint)
    obj.airflow_name = resolve_name(obj.flow.name, name)


def create_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that decide how a flow is deployed."""
    options = [
        click.option(
            "--tag",
            "tags",
            multiple=True,
            help="Tag of all that the runs produce, and of the DAG; may be given several times.",
        ),
        NAMESPACE,
        PROJECT_ROOT,
        click.option(
            "--max-workers",
            default=100,
            show_default=True,
            type=int,
            help="Maximum number of tasks of a run that run in parallel.",
        ),
        click.option(
            "--workflow-timeout",
            default=None,
            type=int,
            metavar="SECONDS",
            help="Timeout of a run, however it was started.",
        ),
        click.option("--worker-pool", default=None, help="Airflow pool of all steps."),
        click.option(
            "--is-paused-upon-creation/--no-is-paused-upon-creation",
            default=None,
            is_flag=True,
            help="Pause the DAG when Airflow first parses it.  [default: as Airflow is configured]",
        ),
        click.option(
            "--auto-emit-events/--no-auto-emit-events",
            "auto_emit_events",
            default=True,
            show_default=True,
            help="Publish an event after each run, for @trigger_on_finish of other flows.",
        ),
        click.option(
            "--emit-step-events/--no-emit-step-events",
            default=False,
            show_default=True,
            help="Publish an event after each task, too.",
        ),
    ]
    return add_options([*options, *_NOTIFY_OPTIONS])(command)


_NOTIFY_OPTIONS = [
    *NOTIFY_WHEN,
    click.option("--notify-slack-conn-id", default=None, metavar="CONNECTION",
                 help="Airflow connection with a Slack incoming webhook."),
    click.option("--notify-slack-webhook-url", default=None,
                 metavar="URL", help="The webhook itself; kept in a connection of Airflow, nowhere else."),
    click.option("--notify-pager-duty-conn-id", default=None, metavar="CONNECTION",
                 help="Airflow connection with a PagerDuty key."),
    click.option("--notify-pager-duty-integration-key", default=None,
                 metavar="KEY", help="The PagerDuty Events API V2 key itself; kept in a connection."),
    click.option("--notify-incident-io-conn-id", default=None, metavar="CONNECTION",
                 help="Airflow connection with an incident.io key."),
    click.option("--notify-incident-io-api-key", default=None,
                 metavar="KEY", help="The incident.io API V2 key itself; kept in a connection."),
    *ALERTS,
]  # fmt: skip


@airflow.command(help="Deploy a new version of this flow to Airflow: write a DAG file and its manifest.")
@click.argument("file", required=False)
@token_options
@create_options
@click.option("--manifest-only", is_flag=True, hidden=True, help="Write the manifest to FILE and no DAG file.")
@CREATED
@click.pass_obj
@plain_errors
def create(
    obj: Any,
    file: str | None,
    authorize: str | None,
    generate_new_token: bool,
    given_token: str | None,
    manifest_only: bool,
    deployer_attribute_file: str | None,
    **options: Any,
) -> None:
    tokens = TokenOptions(authorize=authorize, given=given_token, generate=generate_new_token)
    if manifest_only and file:
        # The DAG file that asks for it may run the steps elsewhere, and checks what they need there.
        manifest = _compile(obj, tokens, options, validate=check_rules)
        write_atomically(Path(file), encode_manifest(manifest))
        return
    target = target_of(obj, file)
    write_attributes(
        deployer_attribute_file,
        name=obj.airflow_name.name,
        flow_name=obj.flow.name,
        metadata=obj.metadata.metadata_str(),
        additional_info={"file": str(target)},
    )
    obj.echo("Deploying *%s* to Airflow..." % obj.airflow_name.name, bold=True)
    manifest = _compile(obj, tokens, options)
    unseen = dag_file.unreachable_datastore(manifest, target, from_conf("AIRFLOW_URL"))
    if unseen:
        print(f"Warning: {unseen}", file=sys.stderr)
    for line in dag_file.write(target, manifest):
        obj.echo(line)
    obj.echo(
        "DAG *%s* of flow *%s* was written to %s." % (manifest.deployment.name, obj.flow.name, target),
        bold=True,
    )
    report_namespace(obj, manifest.deployment.namespace, manifest.deployment.production_token, "airflow")
    _report_next_step(obj)


def _report_next_step(obj: Any) -> None:
    from metaflow_orchestration.compile.configuration import metaflow_value

    obj.echo("Airflow parses the file within some minutes. To start a run then, also if the DAG is paused:")
    obj.echo("    %s" % command_of("trigger --unpause --wait", "airflow"), fg="green")
    if not metaflow_value("AIRFLOW_URL"):
        obj.echo("For that, set METAFLOW_AIRFLOW_URL to the address of your Airflow.")


def target_of(obj: Any, file: str | None) -> Any:
    return dag_file.target_file(obj.airflow_name.name, file, from_conf("AIRFLOW_DAGS_FOLDER"), os.environ, sys.argv[0])


def given_parameters(obj: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return the values of the parameters that were given, as the JSON types that a DAG run takes."""
    from airflow_provider_metaflow.plan.parameters import conf_value
    from metaflow_orchestration.compile.reading.reader import read_parameters

    given = click.get_current_context().meta["given"]
    values = {}
    for parameter in read_parameters(obj.flow, with_defaults=False):
        # Click's name of the option.
        name = parameter.name.replace("-", "_").lower()
        value = options.get(name)
        if name in given and value is not None:
            values[parameter.name] = conf_value(parameter, parameter_value(obj, value))
    return values


def stored_conf(obj: Any, run_id: str) -> dict[str, Any] | None:
    """Return the required parameters of a run of another deployer as the JSON types that a DAG run takes.

    :param obj: state of Metaflow's command line.
    :param run_id: Metaflow run id.
    """
    from airflow_provider_metaflow.plan.parameters import conf_value
    from metaflow_orchestration.compile.reading.reader import read_parameters

    found = stored_values(obj, run_id)
    if found is None:
        return None
    return {
        one.name: conf_value(one, found[one.name])
        for one in read_parameters(obj.flow, with_defaults=False)
        if one.name in found
    }


def _notifications(obj: Any, options: dict[str, Any], *, saves_secret: bool) -> Notifications | None:
    if not (options["notify_on_error"] or options["notify_on_success"]):
        return None
    from airflow_provider_metaflow.rest.client import AirflowClient
    from airflow_provider_metaflow.rest.endpoint import configured_endpoint
    from airflow_provider_metaflow.rest.notify import resolve_notifications
    from metaflow_orchestration.compile.configuration import metaflow_value

    def connect() -> AirflowClient:
        return AirflowClient(configured_endpoint(metaflow_value))

    return resolve_notifications(obj.flow.name, obj.airflow_name.name, options, connect if saves_secret else None)


def _compile(
    obj: Any,
    tokens: TokenOptions | None,
    options: dict[str, Any],
    validate: Callable[[Manifest], None] = check_deployable,
    *,
    saves_secret: bool = True,
) -> Manifest:
    """Compile the flow.

    :param obj: state of Metaflow's command line.
    :param tokens: options about the production token; None for a flow that is not deployed: without a token, its tasks
        are in the namespace of the user, as those of `run`.
    :param options: options of ``create``.
    :param validate: checks what Airflow would refuse.
    :param saves_secret: whether the addresses and keys of ``--notify-…`` become connections of Airflow.
    """
    if obj.flow_datastore.TYPE != "local":
        check_reachable(obj.flow_datastore.TYPE, obj.flow.name)
    # The token first: who may not deploy changes no connection either.
    token = "" if tokens is None else resolve_token(obj, obj.airflow_name, tokens)
    chosen = _deploy_options(obj, options, uploads=True, saves_secret=saves_secret)
    manifest = compile_manifest(obj, obj.airflow_name, token, chosen)
    validate(manifest)
    for warning in (*dag_file.warnings(manifest), *secret_warnings(manifest)):
        print(f"Warning: {warning}", file=sys.stderr)
    return manifest


def _deploy_options(obj: Any, options: dict[str, Any], *, uploads: bool, saves_secret: bool) -> DeployOptions:
    return DeployOptions(
        tags=tuple(options["tags"]),
        namespace=options["user_namespace"],
        max_workers=options["max_workers"],
        workflow_timeout=options["workflow_timeout"],
        worker_pool=options["worker_pool"],
        is_paused_upon_creation=options["is_paused_upon_creation"],
        emit_events=options["auto_emit_events"],
        emit_step_events=options["emit_step_events"],
        notifications=_notifications(obj, options, saves_secret=saves_secret),
        project_root=options["project_root"],
        upload=uploads,
    )


@airflow.command(help="Show what Airflow would do with this flow; deploy nothing.")
@add_options(CHECK)
@create_options
@click.pass_obj
@plain_errors
def check(obj: Any, width: int, as_json: bool, **options: Any) -> None:
    from airflow_provider_metaflow.plan.checked import AirflowTarget

    def compile_it() -> Manifest:
        chosen = _deploy_options(obj, options, uploads=False, saves_secret=False)
        return compile_manifest(obj, obj.airflow_name, PLACEHOLDER_TOKEN, chosen)

    show_check(obj, "airflow", width, compile_it, lambda _: AirflowTarget(), as_json=as_json)


@parameters.add_custom_parameters(deploy_mode=False)
@airflow.command(cls=GivenOptions, help="Run this flow once on an Airflow of its own, exactly as it would be deployed.")
@token_options
@create_options
@click.option(
    "--home",
    default=None,
    type=click.Path(file_okay=False),
    help="Folder of that Airflow; kept when given, else a temporary one.",
)
@click.pass_obj
@plain_errors
def test(
    obj: Any,
    authorize: str | None,
    generate_new_token: bool,
    given_token: str | None,
    home: str | None,
    **options: Any,
) -> None:
    from airflow_provider_metaflow.embedded.trial import check_airflow, run_once

    check_airflow(obj.flow.name)
    tokens = TokenOptions(authorize=authorize, given=given_token, generate=generate_new_token)
    # Nothing is deployed, so nobody's token is needed unless the namespace of a deployment is asked for.
    manifest = _compile(obj, None if tokens == TokenOptions() else tokens, options, saves_secret=False)
    values = given_parameters(obj, options)
    if not run_once(manifest, values, home):
        raise AirflowError("The run of *%s* failed." % manifest.deployment.name)
