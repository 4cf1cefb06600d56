"""Options and texts of ``python flow.py sfn``."""

from __future__ import annotations

from metaflow._vendor import click

from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli import options as common
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.target import TargetOptions, VerbOptions

STATES = ("running", "succeeded", "failed", "timed-out", "aborted")
"""Statuses of runs, as options of ``list-runs``."""

_VARIABLES = {
    "": (
        ("AWS_PROFILE, AWS_REGION, …", "Account and credentials, as for the AWS command line."),
        ("METAFLOW_SFN_STATE_MACHINE_PREFIX", "What names of state machines begin with."),
        ("METAFLOW_UI_URL", "Metaflow's user interface, for links to runs."),
    ),
    "create": (
        ("AWS_PROFILE, AWS_REGION, …", "Account and credentials, as for the AWS command line."),
        ("METAFLOW_SFN_IAM_ROLE", "Role of the state machine."),
        ("METAFLOW_ECS_S3_ACCESS_IAM_ROLE", "Role of the jobs."),
        ("METAFLOW_BATCH_JOB_QUEUE", "Queue of the jobs."),
        ("METAFLOW_EVENTS_SFN_ACCESS_IAM_ROLE", "Role of EventBridge, for @schedule and @trigger."),
        ("METAFLOW_SFN_EXECUTION_LOG_GROUP_ARN", "Log group of --log-execution-history."),
        ("METAFLOW_SFN_STATE_MACHINE_PREFIX", "What names of state machines begin with."),
    ),
}

_CREATE_OPTIONS = [
    common.TAGS,
    click.option("--aws-batch-tag", "aws_batch_tags", multiple=True,
                 help="Tag of all jobs, in the form KEY=VALUE. May be given several times."),
    common.NAMESPACE,
    common.PROJECT_ROOT,
    click.option("--only-json", is_flag=True, default=False,
                 help="Print the definition, deploy nothing and ask AWS nothing."),
    click.option("--max-workers", default=None, type=int,
                 help="Maximum number of tasks of a foreach that run in parallel; 0 for any number. 100 by default; "
                 "a foreach of one step is then an array job, whose children run as the compute environment has room."),
    common.TIMEOUT,
    click.option("--log-execution-history", is_flag=True, default=False,
                 help="Log the history of runs to METAFLOW_SFN_EXECUTION_LOG_GROUP_ARN."),
    click.option("--use-distributed-map/--no-use-distributed-map", default=None,
                 help="Make all maps distributed, or none; by default those that are in no other map."),
    click.option("--compress-state-machine/--no-compress-state-machine", default=False,
                 help="Accepted for Metaflow's own deployer; the state machine is small anyway."),
    click.option("--gang-poll-seconds", default=30, show_default=True, type=int,
                 help="Pause between two looks at the job of a @parallel step, for which AWS does not wait by itself."),
    click.option("--share-identifier", default=None,
                 help="Share of the jobs in queues with a scheduling policy; by default it is metaflow there."),
    click.option("--batch-platform", default=None, type=click.Choice(["ec2", "fargate"], case_sensitive=False),
                 help="Type of the compute environments; by default AWS is asked, and with --only-json it is ec2."),
]  # fmt: skip

_NOTIFY_OPTIONS = [
    *common.NOTIFY_WHEN,
    click.option("--notify-sns-topic", default=None, help="ARN of a topic of Amazon SNS."),
    click.option("--notify-slack-webhook-url", default=None,
                 help="Slack incoming webhook; it is kept in AWS Secrets Manager, nowhere else."),
    click.option("--notify-pager-duty-integration-key", default=None,
                 help="PagerDuty Events API V2 key; kept in AWS Secrets Manager."),
    click.option("--notify-incident-io-api-key", default=None,
                 help="incident.io API V2 key; kept in AWS Secrets Manager."),
    click.option("--notify-secret", default=None,
                 help="ARN of a secret that holds them already, under the keys SLACK, PAGER_DUTY, INCIDENT_IO."),
    *common.ALERTS,
]  # fmt: skip

_CHECK_OPTIONS = [
    click.option("--policies", is_flag=True, default=False,
                 help="Print the policies of roles and deployer, and the trust policies of the roles, as JSON."),
    click.option("--cloudformation", is_flag=True, default=False,
                 help="Print them as one template of CloudFormation, as JSON."),
]  # fmt: skip
_REDRIVE = click.option(
    "--redrive",
    is_flag=True,
    default=False,
    help="Go on with the same run at the states that failed, as AWS allows for 14 days.",
)
_OF_STATUS = [click.option("--%s" % one, is_flag=True, default=False, help="Runs of this status.") for one in STATES]

_VERBS = {
    "create": VerbOptions("Deploy a new version of this flow to AWS Step Functions."),
    "check": VerbOptions(
        "Show what AWS Step Functions would do with this flow; deploy nothing, and ask AWS nothing.", _CHECK_OPTIONS
    ),
    "trigger": VerbOptions("Start a run of the deployed flow.", common.STARTED),
    "resume": VerbOptions(common.RESUME_HELP, [_REDRIVE, *common.RESUME, common.AUTHORIZE, *common.STARTED]),
    "status": VerbOptions("Show the status of a run, and why it failed.", [common.WATCH]),
    "list-runs": VerbOptions("Show the runs of the deployed flow, the newest first.", [common.JSON, *_OF_STATUS]),
    "logs": VerbOptions("Show the logs of a run's jobs, from CloudWatch.", [common.STEP]),
    "terminate": VerbOptions("End a run."),
    "delete": VerbOptions("Delete the flow on AWS: state machine, job definitions, schedule and rules."),
    "list-deployments": VerbOptions("Show the state machines that hold this flow.", [common.ALL_FLOWS]),
}

OPTIONS = TargetOptions(
    help="Commands related to AWS Step Functions.",
    name_help="Name of the state machine; by default that of the flow.",
    deploy=[*_CREATE_OPTIONS, *_NOTIFY_OPTIONS],
    verbs=_VERBS,
    variables=_VARIABLES,
)
