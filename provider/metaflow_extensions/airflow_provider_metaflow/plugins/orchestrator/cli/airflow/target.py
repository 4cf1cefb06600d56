"""Airflow 3, for the command group: how a flow is deployed to it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from metaflow.exception import MetaflowException
from metaflow.metaflow_config_funcs import from_conf

from airflow_provider_metaflow.deploy import dag_file
from airflow_provider_metaflow.plan.rules import check_deployable, check_rules
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.messages import command_of, report_namespace
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.target import DeployRequest, Runs, Values
from metaflow_orchestration.compile.deployment.manifest import compile_manifest
from metaflow_orchestration.compile.deployment.names import resolve_name
from metaflow_orchestration.compile.deployment.reachable import check_reachable
from metaflow_orchestration.compile.deployment.tokens import PLACEHOLDER_TOKEN, TokenOptions, resolve_token
from metaflow_orchestration.documents.manifest import Manifest, Notifications

from .options import OPTIONS
from .runs import AirflowGroupRuns


class AirflowError(MetaflowException):
    headline = "Airflow"


class AirflowTarget:
    """Airflow, for the command group; see ``target.Target``."""

    name = check_name = "airflow"
    title = "Airflow"
    what = "DAG"
    error = AirflowError
    options = OPTIONS

    def select(self, obj: Any, name: str | None) -> None:
        """Note which DAG the command is about."""
        obj.airflow_name = resolve_name(obj.flow.name, name)

    def deployment_name(self, obj: Any) -> str:
        """Return the DAG id."""
        return str(obj.airflow_name.name)

    def compile(self, obj: Any, request: DeployRequest) -> Manifest:
        """Compile the flow, and check what Airflow would refuse."""
        if request.tokens is None:
            chosen = _deploy_options(obj, request, saves_secret=False)
            return compile_manifest(obj, obj.airflow_name, PLACEHOLDER_TOKEN, chosen)
        if not (request.manifest_only or request.is_trial):
            # Where the DAG file goes must be known; a flow is not packaged for nothing.
            target_of(obj, request.file)
        if obj.flow_datastore.TYPE != "local":
            check_reachable(obj.flow_datastore.TYPE, obj.flow.name)
        # The token first: who may not deploy changes no connection either.
        token = _token(obj, request, request.tokens)
        chosen = _deploy_options(obj, request, saves_secret=not request.is_trial)
        manifest = compile_manifest(obj, obj.airflow_name, token, chosen)
        # The DAG file that asks for a manifest alone may run the steps elsewhere, and checks what they need there.
        (check_rules if request.manifest_only else check_deployable)(manifest)
        return manifest

    def warnings(self, manifest: Manifest) -> Sequence[str]:
        """Return what the user should know."""
        return tuple(dag_file.warnings(manifest))

    def deploy(self, obj: Any, manifest: Manifest, request: DeployRequest) -> Mapping[str, Any]:
        """Write the DAG file and its manifest."""
        file = target_of(obj, request.file)
        obj.echo("Deploying *%s* to Airflow..." % obj.airflow_name.name, bold=True)
        unseen = dag_file.unreachable_datastore(manifest, file, from_conf("AIRFLOW_URL"))
        if unseen:
            print(f"Warning: {unseen}", file=sys.stderr)
        for line in dag_file.write(file, manifest):
            obj.echo(line)
        obj.echo(
            "DAG *%s* of flow *%s* was written to %s." % (manifest.deployment.name, obj.flow.name, file),
            bold=True,
        )
        report_namespace(obj, manifest, self.name)
        _report_next_step(obj)
        return {"file": str(file)}

    def print_checked(self, obj: Any, request: DeployRequest) -> bool:
        """Print nothing: ``check`` has its report alone."""
        return False

    def check_target(self, obj: Any, manifest: Manifest, request: DeployRequest) -> Any:
        """Return what ``check`` asks about the flow."""
        from airflow_provider_metaflow.plan.checked import AirflowTarget as Checked

        return Checked()

    def runs(self, obj: Any) -> AbstractContextManager[Runs]:
        """Return the runs of the DAG."""
        return AirflowGroupRuns(obj, self.error, lambda file: target_of(obj, file))


def target_of(obj: Any, file: str | None) -> Any:
    """Return the DAG file of a deployment.

    :param obj: state of Metaflow's command line.
    :param file: where the user wants it, None for the configured folder.
    """
    return dag_file.target_file(obj.airflow_name.name, file, from_conf("AIRFLOW_DAGS_FOLDER"), os.environ, sys.argv[0])


def _token(obj: Any, request: DeployRequest, tokens: TokenOptions) -> str:
    """Return the production token; none for a trial, whose tasks are in the user's namespace, as those of `run`."""
    # Nobody's token is needed then, unless the namespace of a deployment is asked for.
    if request.is_trial and tokens == TokenOptions():
        return ""
    return resolve_token(obj, obj.airflow_name, tokens)


def _deploy_options(obj: Any, request: DeployRequest, *, saves_secret: bool) -> Any:
    options = request.options
    return request.deploy_options(
        notifications=_notifications(obj, options, saves_secret=saves_secret),
        upload=request.tokens is not None,
        worker_pool=options["worker_pool"],
        is_paused_upon_creation=options["is_paused_upon_creation"],
        emit_events=options["auto_emit_events"],
        emit_step_events=options["emit_step_events"],
    )


def _notifications(obj: Any, options: Values, *, saves_secret: bool) -> Notifications | None:
    """Return who is notified; addresses and keys of ``--notify-…`` become connections of Airflow if they are saved."""
    if not (options["notify_on_error"] or options["notify_on_success"]):
        return None
    from airflow_provider_metaflow.rest.notify import resolve_notifications

    from .runs import connect

    return resolve_notifications(obj.flow.name, obj.airflow_name.name, options, connect if saves_secret else None)


def _report_next_step(obj: Any) -> None:
    from metaflow_orchestration.compile.configuration import metaflow_value

    obj.echo("Airflow parses the file within some minutes. To start a run then, also if the DAG is paused:")
    obj.echo("    %s" % command_of("trigger --unpause --wait", "airflow"), fg="green")
    if not metaflow_value("AIRFLOW_URL"):
        obj.echo("For that, set METAFLOW_AIRFLOW_URL to the address of your Airflow.")
