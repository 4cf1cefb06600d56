"""What a flow is on AWS: a state machine, and all that belongs to it, as plain data for AWS or for other tools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from metaflow_adapters.step_functions.language.asl import Definition
from metaflow_adapters.step_functions.language.jsonata import to_json
from metaflow_adapters.step_functions.language.states import Scope
from metaflow_orchestration.documents.manifest import Manifest

from .emit.resources import Resources
from .settings import AwsSettings, Place

if TYPE_CHECKING:
    from metaflow_adapters.step_functions.aws.client import Aws
    from metaflow_adapters.step_functions.permissions.trust import Template, TrustPolicy

    from .compile import StepFunctionsOptions


@dataclass(frozen=True, kw_only=True)
class FlowMachine:
    """A flow as a state machine.

    ```python
    from metaflow_adapters.step_functions import compile_flow

    machine = compile_flow("flows/training.py")
    print(machine.to_json())
    machine.deploy()
    machine.trigger(alpha=0.5)
    ```

    New in version 0.1.0.

    :param name: name of the state machine.
    :param states: its states, frozen and typed.
    :param definition: its definition in the Amazon States Language.
    :param resources: what it needs besides.
    :param manifest: the compiled flow.
    :param settings: how the installation uses AWS.
    :param place: where in AWS it is.
    :param log_history: whether its history goes to CloudWatch.
    :param options: options that it was made with, by which a deployment fits it to what roles permit.
    """

    name: str
    states: Scope
    definition: Definition
    resources: Resources
    manifest: Manifest
    settings: AwsSettings
    place: Place
    log_history: bool = False
    options: StepFunctionsOptions | None = field(default=None, repr=False, compare=False)
    _aws: list[Any] = field(default_factory=list, repr=False, compare=False)

    @property
    def arn(self) -> str:
        """ARN of the state machine."""
        return self.place.machine(self.name)

    def to_json(self) -> str:
        """Return the definition as text, for Terraform, CDK or CloudFormation. Equal flows give equal bytes."""
        return to_json(self.definition)

    def trust_policies(self) -> dict[str, TrustPolicy]:
        """Return the trust policies of the roles: which service may assume each of them."""
        from metaflow_adapters.step_functions.permissions.trust import trust_policies

        return trust_policies(self.place, list(self.resources.policies))

    def roles_template(self) -> Template:
        """Return the roles and the deployer's policy as one template of CloudFormation."""
        from metaflow_adapters.step_functions.permissions.trust import roles_template

        return roles_template(self)

    def deploy(self, aws: Aws | None = None) -> str:
        """Deploy the flow to AWS and return the ARN of its state machine.

        :param aws: clients of AWS; those of Metaflow's configuration if left out.
        :raises InvalidOptionError: if a role is missing.
        """
        from metaflow_adapters.step_functions.deploy.flow import deploy_machine

        return deploy_machine(self, self._clients(aws))

    def diff(self, aws: Aws | None = None) -> str:
        """Return how the deployed state machine differs, as a unified diff; empty if it does not.

        :param aws: clients of AWS; those of Metaflow's configuration if left out.
        """
        from metaflow_adapters.step_functions.deploy.flow import difference

        return difference(self, self._clients(aws))

    def trigger(self, aws: Aws | None = None, /, **parameters: Any) -> str:
        """Start a run and return its run id.

        :param aws: clients of AWS; those of Metaflow's configuration if left out.
        :param parameters: the flow's parameters.
        :raises InvalidOptionError: if one is unknown, or a required one is missing.
        """
        from metaflow_adapters.step_functions.runs.runs import SfnRuns

        return SfnRuns(self._clients(aws), self.name, self.manifest.graph.name).start(parameters)

    def nested_state(self, parameters: Mapping[str, Any] | str | None = None, **fields: Any) -> dict[str, Any]:
        """Return a state that runs the flow inside a state machine of one's own, and waits for it.

        Its role needs ``states:StartExecution`` and the rest of what AWS lists for nested executions.

        :param parameters: the flow's parameters; values may be expressions in ``{% … %}``.
        :param fields: further fields of the state, e.g. ``Next="report"`` or ``End=True``.
        """
        given = {
            "Parameters": parameters or {},
            # The console shows by it which execution has started which.
            "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID": "{% $states.context.Execution.Id %}",
        }
        return {
            "Type": "Task",
            "QueryLanguage": "JSONata",
            "Resource": f"arn:{self.place.partition}:states:::states:startExecution.sync:2",
            "Arguments": {"StateMachineArn": self.arn, "Input": given},
            "Output": "{% $states.result.Output %}",
            **fields,
        }

    def _clients(self, aws: Aws | None) -> Aws:
        if aws is None:
            from metaflow_adapters.step_functions.aws.client import Aws

            aws = self._aws[0] if self._aws else Aws()
            self._aws[:] = [aws]
        return aws
