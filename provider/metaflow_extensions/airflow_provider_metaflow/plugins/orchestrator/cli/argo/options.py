"""Options and texts of ``python flow.py argo``."""

from __future__ import annotations

from metaflow._vendor import click

from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli import options as common
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.target import TargetOptions, VerbOptions

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

_CREATE_OPTIONS = [
    common.TAGS,
    common.NAMESPACE,
    common.PROJECT_ROOT,
    click.option("--only-json", is_flag=True, default=False, help="Print JSON, and deploy nothing."),
    click.option("--only-yaml", is_flag=True, default=False, help="Print YAML for kubectl, and deploy nothing."),
    click.option("--max-workers", default=100, show_default=True, type=int,
                 help="Maximum number of tasks of a run that run in parallel."),
    common.TIMEOUT,
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
    *common.NOTIFY_WHEN,
    click.option("--notify-slack-webhook-url", default=None,
                 help="Slack incoming webhook; it is kept in a Kubernetes secret, nowhere else."),
    click.option("--notify-pager-duty-integration-key", default=None,
                 help="PagerDuty Events API V2 key; kept in a Kubernetes secret."),
    click.option("--notify-incident-io-api-key", default=None,
                 help="incident.io API V2 key; kept in a Kubernetes secret."),
    click.option("--notify-secret", default=None,
                 help="Kubernetes secret that holds them already, under the keys SLACK, PAGER_DUTY, INCIDENT_IO."),
    *common.ALERTS,
]  # fmt: skip

_VERBS = {
    "create": VerbOptions("Deploy a new version of this flow to Argo Workflows."),
    "check": VerbOptions("Show what Argo Workflows would do with this flow; deploy nothing."),
    "trigger": VerbOptions("Start a run of the deployed flow.", common.STARTED),
    "resume": VerbOptions(common.RESUME_HELP, [*common.RESUME, common.AUTHORIZE, *common.STARTED]),
    "status": VerbOptions("Show the status of a run.", [common.WATCH]),
    "list-runs": VerbOptions("Show the runs of the deployed flow, the newest first.", [common.JSON]),
    "logs": VerbOptions("Show the logs of a run's pods.", [common.STEP]),
    "terminate": VerbOptions("End a run."),
    "suspend": VerbOptions("Start no further tasks of a run."),
    "unsuspend": VerbOptions("Go on with a suspended run."),
    "delete": VerbOptions("Delete the flow on Argo Workflows: template, schedule and sensor."),
    "list-workflow-templates": VerbOptions("Show the workflow templates that hold this flow.", [common.ALL_FLOWS]),
}

OPTIONS = TargetOptions(
    help="Commands related to Argo Workflows.",
    name_help="Name of the workflow template; by default that of the flow.",
    deploy=[*_CREATE_OPTIONS, *_NOTIFY_OPTIONS],
    verbs=_VERBS,
    listing="list-workflow-templates",
    variables=_VARIABLES,
)
