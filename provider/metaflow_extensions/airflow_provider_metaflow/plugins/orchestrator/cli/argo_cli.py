"""``python flow.py argo …``: deploy a flow to Argo Workflows. Loaded only when the group is used."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from metaflow._vendor import click
from metaflow.exception import MetaflowException
from metaflow.metaflow_config import KUBERNETES_NAMESPACE

from metaflow_adapters.ownership import PLACEHOLDER_TOKEN, token_for
from metaflow_orchestration.compile.deployment.deploy import DeployOptions
from metaflow_orchestration.compile.deployment.tokens import TokenOptions
from metaflow_orchestration.compile.reading.container_settings import secret_warnings
from metaflow_orchestration.documents.manifest import Manifest, encode_manifest, write_atomically

from .check_verb import CHECK, show_check
from .options import (
    ALERTS,
    CREATED,
    NAMESPACE,
    NOTIFY_WHEN,
    PROJECT_ROOT,
    TAGS,
    TIMEOUT,
    adapter_of,
    add_options,
    plain_errors_of,
    print_data,
    tell_deployed,
    token_options,
    write_attributes,
)
from .verb_help import Verbs


class ArgoError(MetaflowException):
    headline = "Argo Workflows"


plain_errors = plain_errors_of(ArgoError)


adapter = adapter_of(
    "argo", ("hera", "yaml"), "Hera is not installed, which makes the objects of Argo Workflows.", "argo"
)

_VARIABLES = {
    "": (
        ("KUBECONFIG", "How to reach the cluster; in a pod, its service account."),
        ("METAFLOW_KUBERNETES_NAMESPACE", "Namespace of the workflows.  [default: default]"),
        ("METAFLOW_ARGO_WORKFLOWS_UI_URL", "Argo's user interface, for links to runs."),
        ("METAFLOW_UI_URL", "Metaflow's user interface, for links to runs."),
    ),
    "create": (
        ("KUBECONFIG", "How to reach the cluster; in a pod, its service account."),
        ("METAFLOW_KUBERNETES_NAMESPACE", "Namespace of the workflows.  [default: default]"),
        ("METAFLOW_KUBERNETES_SECRETS", "Kubernetes secrets whose keys are variables of all steps."),
        ("METAFLOW_KUBERNETES_SERVICE_ACCOUNT", "Service account of the pods."),
        ("METAFLOW_ARGO_EVENTS_…", "Argo Events, for @trigger and published events; see docs/argo.md."),
    ),
}


@click.group(cls=Verbs, variables=_VARIABLES, help="Commands related to Argo Workflows.")
@click.option("--name", default=None, type=str, help="Name of the workflow template; by default that of the flow.")
@click.pass_obj
@plain_errors
def argo(obj: Any, name: str | None = None) -> None:
    obj.check(obj.graph, obj.flow, obj.environment, pylint=obj.pylint)
    obj.argo_name = adapter("plan.names").argo_name(obj.flow.name, name)
    obj.argo_cluster = adapter("cluster.client").ArgoCluster(KUBERNETES_NAMESPACE or "default")


_CREATE_OPTIONS = [
    TAGS,
    NAMESPACE,
    PROJECT_ROOT,
    click.option("--only-json", is_flag=True, default=False, help="Print JSON, and deploy nothing."),
    click.option("--only-yaml", is_flag=True, default=False, help="Print YAML for kubectl, and deploy nothing."),
    click.option("--manifest-only", is_flag=True, hidden=True, help="Write the manifest to FILE, and no more."),
    click.option("--max-workers", default=100, show_default=True, type=int,
                 help="Maximum number of tasks of a run that run in parallel."),
    TIMEOUT,
    click.option("--workflow-priority", default=None, type=int,
                 help="Priority, where Argo's controller limits the number of workflows."),
    click.option("--workflow-title", default=None, help="Title in Argo's user interface; Markdown."),
    click.option("--workflow-description", default=None, help="Description in Argo's user interface; Markdown."),
    click.option("--auto-emit-argo-events/--no-auto-emit-argo-events", default=True, show_default=True,
                 help="Publish events after steps and the run, for other flows."),
    click.option("--gang", default="jobset", show_default=True, type=click.Choice(["jobset", "job"]),
                 help="What a @parallel step is: a JobSet, or an Indexed Job where JobSet is not installed."),
    click.option("--enable-error-msg-capture/--no-enable-error-msg-capture", default=True, show_default=True,
                 help="Say in notifications what failed first."),
    click.option("--enable-heartbeat-daemon/--no-enable-heartbeat-daemon", default=False, show_default=True,
                 help="Report to Metaflow's service that the run is alive, from a container beside the steps."),
    click.option("--ttl-seconds", default=None, type=int, help="Delete a workflow so many seconds after its end."),
    click.option("--pod-gc", default=None,
                 type=click.Choice(["OnPodCompletion", "OnPodSuccess", "OnWorkflowCompletion", "OnWorkflowSuccess"]),
                 help="When pods are deleted."),
    click.option("--concurrency-policy", default=None, type=click.Choice(["Allow", "Forbid", "Replace"]),
                 help="What happens to a run by @schedule while an earlier one runs."),
    click.option("--successful-runs-kept", default=None, type=int,
                 help="How many runs by @schedule are kept that succeeded; 10,000 by default."),
    click.option("--failed-runs-kept", default=None, type=int,
                 help="How many runs by @schedule are kept that failed; 10,000 by default."),
]  # fmt: skip


_NOTIFY_OPTIONS = [
    *NOTIFY_WHEN,
    click.option("--notify-slack-webhook-url", default=None,
                 help="Slack incoming webhook; it is kept in a Kubernetes secret, nowhere else."),
    click.option("--notify-pager-duty-integration-key", default=None,
                 help="PagerDuty Events API V2 key; kept in a Kubernetes secret."),
    click.option("--notify-incident-io-api-key", default=None,
                 help="incident.io API V2 key; kept in a Kubernetes secret."),
    click.option("--notify-secret", default=None,
                 help="Kubernetes secret that holds them already, under the keys SLACK, PAGER_DUTY, INCIDENT_IO."),
    *ALERTS,
]  # fmt: skip


@argo.command(help="Deploy a new version of this flow to Argo Workflows.")
@click.argument("file", required=False)
@token_options
@add_options(_CREATE_OPTIONS)
@add_options(_NOTIFY_OPTIONS)
@CREATED
@click.pass_obj
@plain_errors
def create(
    obj: Any,
    file: str | None,
    authorize: str | None,
    generate_new_token: bool,
    given_token: str | None,
    only_json: bool,
    only_yaml: bool,
    deployer_attribute_file: str | None,
    **options: Any,
) -> None:
    prints = bool(only_json or only_yaml or options["manifest_only"])
    # Which needs the extra, as the cluster's client does: a flow is not packaged for nothing.
    adapter("objects.yaml_text")
    if not prints:
        _tell_deployer(obj, deployer_attribute_file)
    tokens = TokenOptions(authorize=authorize, given=given_token, generate=generate_new_token)
    told, secret = adapter("notify").read_notifications(obj.flow.name, obj.argo_name.name, options)
    store = None if prints else adapter("deploy").TemplateStore(obj.argo_cluster, obj.argo_name.name, obj.flow.name)
    token = token_for(obj, obj.argo_name, tokens, store)
    manifest = _compile(obj, token, options, told, uploads=True)
    if options["manifest_only"]:
        write_atomically(Path(file or ""), encode_manifest(manifest))
        return
    for warning in secret_warnings(manifest):
        print("Warning: %s" % warning, file=sys.stderr)
    deployment = _deployment(obj, manifest, options)
    if only_json:
        _tell_deployer(obj, deployer_attribute_file, workflow_template=deployment.to_dicts()[0])
    if prints:
        text = deployment.to_yaml() if only_yaml else json.dumps(deployment.to_dicts(), indent=2)
        _print(obj, text, secret)
        return
    _deploy(obj, deployment, secret)
    tell_deployed(obj, manifest, token, "argo")


def _compile(obj: Any, token: str, options: dict[str, Any], told: Any, *, uploads: bool) -> Manifest:
    made: Manifest = adapter("deploy").compile_for_argo(
        obj,
        obj.argo_name,
        token,
        DeployOptions(
            tags=tuple(options["tags"]),
            namespace=options["user_namespace"],
            max_workers=options["max_workers"],
            workflow_timeout=options["workflow_timeout"],
            emit_events=options["auto_emit_argo_events"],
            notifications=told,
            project_root=options["project_root"],
            upload=uploads,
        ),
    )
    return made


@argo.command(help="Show what Argo Workflows would do with this flow; deploy nothing.")
@add_options(CHECK)
@add_options(_CREATE_OPTIONS)
@add_options(_NOTIFY_OPTIONS)
@click.pass_obj
@plain_errors
def check(obj: Any, width: int, as_json: bool, **options: Any) -> None:
    def compile_it() -> Manifest:
        told, _ = adapter("notify").read_notifications(obj.flow.name, obj.argo_name.name, options)
        return _compile(obj, PLACEHOLDER_TOKEN, options, told, uploads=False)

    def target(_: Manifest) -> Any:
        return adapter("check").ArgoTarget(_argo_options(obj, options))

    show_check(obj, "argo", width, compile_it, target, as_json=as_json)


def _deployment(obj: Any, manifest: Manifest, options: dict[str, Any]) -> Any:
    return adapter("compile").checked_deployment(manifest, _argo_options(obj, options))


def _argo_options(obj: Any, options: dict[str, Any]) -> Any:
    return adapter("compile").ArgoOptions(
        namespace=obj.argo_cluster.namespace,
        priority=options["workflow_priority"],
        title=options["workflow_title"],
        description=options["workflow_description"],
        ttl_seconds=options["ttl_seconds"],
        pod_gc=options["pod_gc"],
        gang=options["gang"],
        tell_failures=options["enable_error_msg_capture"],
        heartbeat=options["enable_heartbeat_daemon"],
        concurrency_policy=options["concurrency_policy"],
        successful_runs_kept=options["successful_runs_kept"],
        failed_runs_kept=options["failed_runs_kept"],
    )


def _secret_name(obj: Any) -> str:
    name: str = adapter("objects.metadata").notify_secret(obj.argo_name.name)
    return name


def _print(obj: Any, text: str, secret: dict[str, str]) -> None:
    print_data(text)
    if secret:
        print(
            "Warning: the Kubernetes secret %s is not in here; make it with the keys %s."
            % (_secret_name(obj), ", ".join(secret)),
            file=sys.stderr,
        )


def _deploy(obj: Any, deployment: Any, secret: dict[str, str]) -> None:
    obj.echo("Deploying *%s* to Argo Workflows..." % obj.argo_name.name, bold=True)
    adapter("deploy").apply(deployment, obj.argo_cluster, secret)
    obj.echo("Workflow *%s* for flow *%s* deployed to Argo Workflows." % (obj.argo_name.name, obj.flow.name), bold=True)


def _tell_deployer(obj: Any, path: str | None, **additional: Any) -> None:
    write_attributes(
        path,
        name=obj.argo_name.name,
        flow_name=obj.flow.name,
        metadata=obj.metadata.metadata_str(),
        **({"additional_info": additional} if additional else {}),
    )
