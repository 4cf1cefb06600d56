"""The command group ``argo``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from metaflow.exception import MetaflowException
from metaflow.metaflow_config import KUBERNETES_NAMESPACE

from metaflow_adapters.ownership import PLACEHOLDER_TOKEN, token_for
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.adapters import adapter_of
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.builder import make_group
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.messages import print_data, report_deployed
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.target import DeployRequest, Runs, Values
from metaflow_orchestration.documents.manifest import Manifest

from .options import OPTIONS
from .runs import ArgoGroupRuns

adapter = adapter_of(
    "argo", ("hera", "yaml"), "Hera is not installed, which makes the objects of Argo Workflows.", "argo"
)


class ArgoError(MetaflowException):
    headline = "Argo Workflows"


class ArgoTarget:
    """Argo Workflows, for the command group; see ``target.Target``."""

    name = check_name = "argo"
    title = "Argo Workflows"
    what = "Workflow"
    error = ArgoError
    options = OPTIONS

    def select(self, obj: Any, name: str | None) -> None:
        """Note which workflow template the command is about, and in which namespace."""
        obj.argo_name = adapter("plan.names").argo_name(obj.flow.name, name)
        obj.argo_cluster = adapter("cluster.client").ArgoCluster(KUBERNETES_NAMESPACE or "default")

    def deployment_name(self, obj: Any) -> str:
        """Return the name of the workflow template."""
        return str(obj.argo_name.name)

    def compile(self, obj: Any, request: DeployRequest) -> Manifest:
        """Compile the flow."""
        # Which needs the extra, as the cluster's client does: a flow is not packaged for nothing.
        adapter("objects.yaml_text")
        notifications, _ = self._notifications(obj, request)
        token = PLACEHOLDER_TOKEN
        if request.tokens is not None:
            token = token_for(obj, obj.argo_name, request.tokens, None if _prints(request) else self._store(obj))
        options = request.deploy_options(
            notifications=notifications,
            upload=request.tokens is not None,
            emit_events=request.options["auto_emit_argo_events"],
        )
        manifest: Manifest = adapter("deploy").compile_for_argo(obj, obj.argo_name, token, options)
        return manifest

    def warnings(self, manifest: Manifest) -> Sequence[str]:
        """Return what the user should know."""
        return ()

    def deploy(self, obj: Any, manifest: Manifest, request: DeployRequest) -> Mapping[str, Any]:
        """Apply the objects of the flow in the cluster, or print them."""
        deployment = adapter("compile").checked_deployment(manifest, _argo_options(obj, request.options))
        _, secret = self._notifications(obj, request)
        name = self.deployment_name(obj)
        if _prints(request):
            return _print(deployment, name, secret, request.options)
        obj.echo("Deploying *%s* to Argo Workflows..." % name, bold=True)
        adapter("deploy").apply(deployment, obj.argo_cluster, secret)
        obj.echo("Workflow *%s* for flow *%s* deployed to Argo Workflows." % (name, obj.flow.name), bold=True)
        report_deployed(obj, manifest, self.name)
        return {}

    def print_checked(self, obj: Any, request: DeployRequest) -> bool:
        """Print nothing: ``check`` has its report alone."""
        return False

    def check_target(self, obj: Any, manifest: Manifest, request: DeployRequest) -> Any:
        """Return what ``check`` asks about the flow."""
        return adapter("check").ArgoTarget(_argo_options(obj, request.options))

    def runs(self, obj: Any) -> AbstractContextManager[Runs]:
        """Return the runs of the workflow template."""
        return nullcontext(ArgoGroupRuns(obj, adapter("runs.runs")))

    def _notifications(self, obj: Any, request: DeployRequest) -> Any:
        return adapter("notify").read_notifications(obj.flow.name, obj.argo_name.name, request.options)

    def _store(self, obj: Any) -> Any:
        return adapter("deploy").TemplateStore(obj.argo_cluster, obj.argo_name.name, obj.flow.name)


def _prints(request: DeployRequest) -> bool:
    return bool(request.options["only_json"] or request.options["only_yaml"] or request.manifest_only)


def _print(deployment: Any, name: str, secret: Mapping[str, str], options: Values) -> Mapping[str, Any]:
    """Print the objects, and return the workflow template, which Metaflow's Deployer passes on with ``only_json``."""
    documents = deployment.to_dicts()
    print_data(deployment.to_yaml() if options["only_yaml"] else json.dumps(documents, indent=2))
    if secret:
        print(
            "Warning: the Kubernetes secret %s is not in here; make it with the keys %s."
            % (adapter("objects.metadata").notify_secret(name), ", ".join(secret)),
            file=sys.stderr,
        )
    return {"workflow_template": documents[0]} if options["only_json"] else {}


def _argo_options(obj: Any, options: Values) -> Any:
    return adapter("compile").ArgoOptions(
        namespace=obj.argo_cluster.namespace,
        priority=options["workflow_priority"],
        title=options["workflow_title"],
        description=options["workflow_description"],
        ttl_seconds=options["ttl_seconds"],
        pod_gc=options["pod_gc"],
        gang=options["gang"],
        report_failures=options["enable_error_msg_capture"],
        heartbeat=options["enable_heartbeat_daemon"],
        concurrency_policy=options["concurrency_policy"],
        successful_runs_kept=options["successful_runs_kept"],
        failed_runs_kept=options["failed_runs_kept"],
    )


group = make_group(ArgoTarget())
