"""Options and texts of ``python flow.py airflow``."""

from __future__ import annotations

from metaflow._vendor import click

from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli import options as common
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.target import TargetOptions, VerbOptions

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

_CREATE_OPTIONS = [
    click.option("--tag", "tags", multiple=True,
                 help="Tag of all that the runs produce, and of the DAG; may be given several times."),
    common.NAMESPACE,
    common.PROJECT_ROOT,
    click.option("--max-workers", default=100, show_default=True, type=int,
                 help="Maximum number of tasks of a run that run in parallel."),
    click.option("--workflow-timeout", default=None, type=int, metavar="SECONDS",
                 help="Timeout of a run, however it was started."),
    click.option("--worker-pool", default=None, help="Airflow pool of all steps."),
    click.option("--is-paused-upon-creation/--no-is-paused-upon-creation", default=None, is_flag=True,
                 help="Pause the DAG when Airflow first parses it.  [default: as Airflow is configured]"),
    click.option("--auto-emit-events/--no-auto-emit-events", "auto_emit_events", default=True, show_default=True,
                 help="Publish an event after each run, for @trigger_on_finish of other flows."),
    click.option("--emit-step-events/--no-emit-step-events", default=False, show_default=True,
                 help="Publish an event after each task, too."),
]  # fmt: skip

_NOTIFY_OPTIONS = [
    *common.NOTIFY_WHEN,
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
    *common.ALERTS,
]  # fmt: skip

_START_OPTIONS = [
    click.option("--run-id-file", default=None, type=str, help="Write the id of this run to the file specified."),
    click.option("--note", default=None, type=str, help="Note that Airflow shows beside the run."),
    click.option("--unpause", is_flag=True, help="Unpause the DAG if it is paused."),
    click.option("--wait", is_flag=True, help="Wait for the end of the run; exit with 1 if it failed."),
    click.option("--parse-timeout", "wait_seconds", default=300, show_default=True, type=int,
                 help="Seconds to wait for Airflow to parse a DAG that was just deployed."),
    click.option("--deployer-attribute-file", default=None, hidden=True,
                 help="Write metadata and pathspec of this run to this file. Used by Metaflow's Deployer API."),
]  # fmt: skip
_LOGICAL_DATE = click.option(
    "--logical-date", default=None, type=str, help="Logical date of the run, in ISO form, e.g. 2026-01-31T00:00:00Z."
)
_RESUME_OPTIONS = [
    click.argument("run-id", required=False, type=str),
    click.option("--origin-run-id", default=None, type=str, help="Run whose finished tasks a new run clones."),
    click.option("--step-to-rerun", default=None, type=str, help="Run this step and all after it again."),
]
_WATCH = click.option("--watch", is_flag=True, help="Keep showing until the run has ended; exit with 1 if it failed.")
_LIST_OPTIONS = [
    click.option("--pending", is_flag=True, help="List runs that wait to start."),
    click.option("--running", is_flag=True, help="List runs that are running."),
    click.option("--succeeded", is_flag=True, help="List runs that succeeded."),
    click.option("--failed", is_flag=True, help="List runs that failed."),
    click.option("--limit", default=20, show_default=True, type=int, help="How many runs to list."),
    common.JSON,
]
_LOG_OPTIONS = [
    click.option("--all", "every_line", is_flag=True, help="Print the lines of Airflow, too."),
    click.option("--step", "step_name", default=None, type=str, help="Only of this step."),
    click.option("--failed", is_flag=True, help="Only of tasks that failed."),
]
_ALL_FLOWS = click.option("--all", "all_flows", is_flag=True, help="List the deployments of all flows.")

_VERBS = {
    "create": VerbOptions("Deploy a new version of this flow to Airflow: write a DAG file and its manifest."),
    "check": VerbOptions("Show what Airflow would do with this flow; deploy nothing."),
    "trigger": VerbOptions("Start a run of the deployed flow.", [_LOGICAL_DATE, *_START_OPTIONS]),
    "resume": VerbOptions(
        "Run the failed tasks of RUN_ID again, or a step and all after it, in place; or, with --origin-run-id, start "
        "a run that clones the finished tasks of another one and runs the rest with the code that is deployed now. "
        "Parameters that are given count in each step that runs.",
        [*_RESUME_OPTIONS, common.AUTHORIZE, *_START_OPTIONS],
    ),
    "status": VerbOptions("Show how far a run is, step by step.", [_WATCH]),
    "list-runs": VerbOptions("List the runs of the deployed flow, the newest first.", _LIST_OPTIONS),
    "logs": VerbOptions("Print what the steps of a run have written, and their errors.", _LOG_OPTIONS),
    "terminate": VerbOptions("End a run: its running tasks are killed and the run counts as failed."),
    "suspend": VerbOptions("Pause the DAG of a run: running tasks end, no further task starts. Holds all its runs."),
    "unsuspend": VerbOptions("Unpause the DAG of a run, so that its runs continue."),
    "delete": VerbOptions(
        "Delete the deployment: the files that `create` wrote. Runs and results stay.", [common.FILE]
    ),
    "list-deployments": VerbOptions("List the deployments of this flow on Airflow.", [_ALL_FLOWS]),
}

OPTIONS = TargetOptions(
    help="Commands related to Airflow.",
    name_help="Airflow DAG id. The flow name is used by default.",
    deploy=[*_CREATE_OPTIONS, *_NOTIFY_OPTIONS],
    verbs=_VERBS,
    variables=_VARIABLES,
)
