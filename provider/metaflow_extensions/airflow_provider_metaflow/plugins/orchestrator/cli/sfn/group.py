"""The command group ``sfn``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from metaflow.exception import MetaflowException
from metaflow.metaflow_config import SFN_STATE_MACHINE_PREFIX

from metaflow_adapters.ownership import PLACEHOLDER_TOKEN, token_for
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.adapters import adapter_of
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.builder import make_group
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.messages import print_data, report_deployed
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.target import DeployRequest, Runs, Values
from metaflow_orchestration.documents.manifest import Manifest

from .options import OPTIONS
from .runs import SfnGroupRuns

adapter = adapter_of(
    "step_functions", ("boto3", "botocore"), "boto3 is not installed, which talks to AWS.", "step-functions"
)


class SfnError(MetaflowException):
    headline = "AWS Step Functions"


class SfnTarget:
    """AWS Step Functions, for the command group; see ``target.Target``."""

    name = "sfn"
    check_name = "step-functions"
    title = "AWS Step Functions"
    what = "Workflow"
    error = SfnError
    options = OPTIONS

    def select(self, obj: Any, name: str | None) -> None:
        """Note which state machine the command is about, and in which account."""
        obj.sfn_name = adapter("plan.names").sfn_name(obj.flow.name, name, SFN_STATE_MACHINE_PREFIX)
        obj.aws = adapter("aws.client").Aws()

    def deployment_name(self, obj: Any) -> str:
        """Return the name of the state machine."""
        return str(obj.sfn_name.name)

    def compile(self, obj: Any, request: DeployRequest) -> Manifest:
        """Compile the flow."""
        only_json, name = request.options["only_json"], obj.sfn_name.name
        offline = request.tokens is None or only_json or request.manifest_only
        token = PLACEHOLDER_TOKEN
        if request.tokens is not None:
            store = None if offline else adapter("deploy.create").MachineStore(obj.aws, name, obj.flow.name)
            token = token_for(obj, obj.sfn_name, request.tokens, store)
        # The token first: who may not deploy saves no secret either.
        notifications = adapter("deploy.notify").read_notifications(
            obj.flow.name, name, request.options, None if offline else obj.aws
        )
        options = request.deploy_options(
            notifications=notifications, upload=request.tokens is not None and not only_json
        )
        manifest: Manifest = adapter("deploy.create").compile_for_aws(obj, obj.sfn_name, token, options)
        return manifest

    def warnings(self, manifest: Manifest) -> Sequence[str]:
        """Return what the user should know."""
        return ()

    def deploy(self, obj: Any, manifest: Manifest, request: DeployRequest) -> Mapping[str, Any]:
        """Deploy the state machine, or print its definition."""
        only_json = request.options["only_json"]
        machine = _machine(obj, manifest, request.options, asks=not only_json)
        if only_json:
            print_data(machine.to_json())
            print(
                "Warning: nothing was uploaded; job definitions, code package and rules are made by `sfn create`.",
                file=sys.stderr,
            )
            return {}
        obj.echo("Deploying *%s* to AWS Step Functions..." % machine.name, bold=True)
        machine.deploy(obj.aws)
        adapter("deploy.notify").save_endpoints(obj.flow.name, machine.name, request.options, obj.aws)
        obj.echo("State machine *%s* for flow *%s* deployed." % (machine.name, obj.flow.name), bold=True)
        report_deployed(obj, manifest, self.name)
        return {}

    def print_checked(self, obj: Any, request: DeployRequest) -> bool:
        """Print the policies of the roles, where they are asked for."""
        policies, cloudformation = request.options["policies"], request.options["cloudformation"]
        if not (policies or cloudformation):
            return False
        machine = _machine(obj, self.compile(obj, request), request.options, asks=False)
        if cloudformation:
            document = machine.roles_template()
        else:
            document = {**machine.resources.policies, "trust": machine.trust_policies()}
        print_data(json.dumps(document, indent=2))
        return True

    def check_target(self, obj: Any, manifest: Manifest, request: DeployRequest) -> Any:
        """Return what ``check`` asks about the flow."""
        return adapter("check").StepFunctionsTarget(_sfn_options(obj, manifest, request.options, asks=False))

    def runs(self, obj: Any) -> AbstractContextManager[Runs]:
        """Return the executions of the state machine."""
        return nullcontext(SfnGroupRuns(obj, adapter))


def _machine(obj: Any, manifest: Manifest, options: Values, *, asks: bool) -> Any:
    return adapter("compile").machine_from(manifest, _sfn_options(obj, manifest, options, asks=asks))


def _sfn_options(obj: Any, manifest: Manifest, options: Values, *, asks: bool) -> Any:
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


group = make_group(SfnTarget())
