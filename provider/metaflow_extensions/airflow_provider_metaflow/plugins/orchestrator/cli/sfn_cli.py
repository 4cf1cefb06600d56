"""``python flow.py sfn …``: deploy a flow to AWS Step Functions. Loaded only when the group is used."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from metaflow._vendor import click
from metaflow.exception import MetaflowException
from metaflow.metaflow_config import SFN_STATE_MACHINE_PREFIX

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


class SfnError(MetaflowException):
    headline = "AWS Step Functions"


plain_errors = plain_errors_of(SfnError)


adapter = adapter_of(
    "step_functions", ("boto3", "botocore"), "boto3 is not installed, which talks to AWS.", "step-functions"
)

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


@click.group(cls=Verbs, variables=_VARIABLES, help="Commands related to AWS Step Functions.")
@click.option("--name", default=None, type=str, help="Name of the state machine; by default that of the flow.")
@click.pass_obj
@plain_errors
def sfn(obj: Any, name: str | None = None) -> None:
    obj.check(obj.graph, obj.flow, obj.environment, pylint=obj.pylint)
    obj.sfn_name = adapter("plan.names").sfn_name(obj.flow.name, name, SFN_STATE_MACHINE_PREFIX)
    obj.aws = adapter("aws.client").Aws()


_CREATE_OPTIONS = [
    TAGS,
    click.option("--aws-batch-tag", "aws_batch_tags", multiple=True,
                 help="Tag of all jobs, in the form KEY=VALUE. May be given several times."),
    NAMESPACE,
    PROJECT_ROOT,
    click.option("--only-json", is_flag=True, default=False,
                 help="Print the definition, deploy nothing and ask AWS nothing."),
    click.option("--manifest-only", is_flag=True, hidden=True, help="Write the manifest to FILE, and no more."),
    click.option("--max-workers", default=None, type=int,
                 help="Maximum number of tasks of a foreach that run in parallel; 0 for any number. 100 by default; "
                 "a foreach of one step is then an array job, whose children run as the compute environment has room."),
    TIMEOUT,
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
    *NOTIFY_WHEN,
    click.option("--notify-sns-topic", default=None, help="ARN of a topic of Amazon SNS."),
    click.option("--notify-slack-webhook-url", default=None,
                 help="Slack incoming webhook; it is kept in AWS Secrets Manager, nowhere else."),
    click.option("--notify-pager-duty-integration-key", default=None,
                 help="PagerDuty Events API V2 key; kept in AWS Secrets Manager."),
    click.option("--notify-incident-io-api-key", default=None,
                 help="incident.io API V2 key; kept in AWS Secrets Manager."),
    click.option("--notify-secret", default=None,
                 help="ARN of a secret that holds them already, under the keys SLACK, PAGER_DUTY, INCIDENT_IO."),
    *ALERTS,
]  # fmt: skip


@sfn.command(help="Deploy a new version of this flow to AWS Step Functions.")
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
    manifest_only: bool,
    deployer_attribute_file: str | None,
    **options: Any,
) -> None:
    tokens = TokenOptions(authorize=authorize, given=given_token, generate=generate_new_token)
    offline = only_json or manifest_only
    store = None if offline else adapter("deploy.create").MachineStore(obj.aws, obj.sfn_name.name, obj.flow.name)
    token = token_for(obj, obj.sfn_name, tokens, store)
    manifest = _compile(obj, token, options, uploads=not only_json, saves_secret=not offline)
    if manifest_only:
        write_atomically(Path(file or ""), encode_manifest(manifest))
        return
    for warning in secret_warnings(manifest):
        print("Warning: %s" % warning, file=sys.stderr)
    machine = _machine(obj, manifest, options, asks=not only_json)
    if only_json:
        _tell_deployer(obj, deployer_attribute_file)
        print_data(machine.to_json())
        print(
            "Warning: nothing was uploaded; job definitions, code package and rules are made by `sfn create`.",
            file=sys.stderr,
        )
        return
    obj.echo("Deploying *%s* to AWS Step Functions..." % machine.name, bold=True)
    machine.deploy(obj.aws)
    adapter("deploy.notify").save_endpoints(obj.flow.name, machine.name, options, obj.aws)
    _tell_deployer(obj, deployer_attribute_file)
    obj.echo("State machine *%s* for flow *%s* deployed." % (machine.name, obj.flow.name), bold=True)
    tell_deployed(obj, manifest, token, "sfn")


def _compile(obj: Any, token: str, options: dict[str, Any], *, uploads: bool, saves_secret: bool) -> Manifest:
    told = adapter("deploy.notify").read_notifications(
        obj.flow.name, obj.sfn_name.name, options, obj.aws if saves_secret else None
    )
    manifest: Manifest = adapter("deploy.create").compile_for_aws(
        obj,
        obj.sfn_name,
        token,
        DeployOptions(
            tags=tuple(options["tags"]),
            namespace=options["user_namespace"],
            max_workers=options["max_workers"],
            workflow_timeout=options["workflow_timeout"],
            notifications=told,
            project_root=options["project_root"],
            upload=uploads,
        ),
    )
    return manifest


def _machine(obj: Any, manifest: Manifest, options: dict[str, Any], *, asks: bool) -> Any:
    return adapter("compile").machine_from(manifest, _sfn_options(obj, manifest, options, asks=asks))


def _sfn_options(obj: Any, manifest: Manifest, options: dict[str, Any], *, asks: bool) -> Any:
    # Who gives the platform asks AWS nothing of its queues.
    shares_of = obj.aws if asks and options["batch_platform"] is None else None
    return adapter("compile").StepFunctionsOptions(
        distributed=options["use_distributed_map"],
        platform=adapter("deploy.create").platforms(manifest, options["batch_platform"], obj.aws if asks else None),
        share_identifier=adapter("deploy.create").shares(manifest, options["share_identifier"], shares_of),
        batch_tags=adapter("deploy.create").batch_tags(obj.flow.name, options["aws_batch_tags"]),
        log_history=options["log_execution_history"],
        gang_poll_seconds=options["gang_poll_seconds"],
    )


@sfn.command(help="Show what AWS Step Functions would do with this flow; deploy nothing, and ask AWS nothing.")
@add_options(CHECK)
@click.option(
    "--policies",
    is_flag=True,
    default=False,
    help="Print the policies of roles and deployer, and the trust policies of the roles, as JSON.",
)
@click.option(
    "--cloudformation", is_flag=True, default=False, help="Print them as one template of CloudFormation, as JSON."
)
@add_options(_CREATE_OPTIONS)
@add_options(_NOTIFY_OPTIONS)
@click.pass_obj
@plain_errors
def check(obj: Any, width: int, as_json: bool, policies: bool, cloudformation: bool, **options: Any) -> None:
    def compile_it() -> Manifest:
        return _compile(obj, PLACEHOLDER_TOKEN, options, uploads=False, saves_secret=False)

    def target(manifest: Manifest) -> Any:
        return adapter("check").StepFunctionsTarget(_sfn_options(obj, manifest, options, asks=False))

    if not (policies or cloudformation):
        show_check(obj, "step-functions", width, compile_it, target, as_json=as_json)
        return
    machine = _machine(obj, compile_it(), options, asks=False)
    if cloudformation:
        print_data(json.dumps(machine.roles_template(), indent=2))
    else:
        print_data(json.dumps({**machine.resources.policies, "trust": machine.trust_policies()}, indent=2))


def _tell_deployer(obj: Any, path: str | None) -> None:
    write_attributes(path, name=obj.sfn_name.name, flow_name=obj.flow.name, metadata=obj.metadata.metadata_str())
