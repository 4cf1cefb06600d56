"""How this installation uses AWS: Metaflow's configuration."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in AWS a deployment is.

    :param partition: e.g. ``aws`` or ``aws-cn``.
    :param region: e.g. ``eu-central-1``.
    :param account: number of the account.
    """

    partition: str = "aws"
    region: str = "${AWS::Region}"
    account: str = "${AWS::AccountId}"

    def arn(self, service: str, resource: str) -> str:
        """Return the ARN of a resource.

        :param service: e.g. ``states``.
        :param resource: e.g. ``stateMachine:Flow``.
        """
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"

    def machine(self, name: str) -> str:
        """Return the ARN of a state machine.

        :param name: its name.
        """
        return self.arn("states", f"stateMachine:{name}")

    def bucket(self, name: str) -> str:
        """Return the ARN of a bucket.

        :param name: its name.
        """
        return f"arn:{self.partition}:s3:::{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsSettings:
    """How an installation uses AWS; placeholders of CloudFormation stand for what is not known.

    :param machine_role: role of state machines (``METAFLOW_SFN_IAM_ROLE``).
    :param events_role: role of rules and schedules (``METAFLOW_EVENTS_SFN_ACCESS_IAM_ROLE``).
    :param log_group: ARN of the log group for histories (``METAFLOW_SFN_EXECUTION_LOG_GROUP_ARN``).
    :param execution_role: role by which AWS Batch reads secrets (``METAFLOW_ECS_FARGATE_EXECUTION_ROLE``).
    :param name_prefix: prefix of names (``METAFLOW_SFN_STATE_MACHINE_PREFIX``).
    :param region: region; that of the roles or of boto3 if left out.
    """

    machine_role: str | None = None
    events_role: str | None = None
    log_group: str | None = None
    execution_role: str | None = None
    name_prefix: str | None = None
    region: str | None = None

    def place(self) -> Place:
        """Return where in AWS deployments are."""
        parts = (self.machine_role or self.events_role or "").split(":")
        known: dict[str, str] = {"region": self.region} if self.region else {}
        if len(parts) > 5:
            known |= {"partition": parts[1], "account": parts[4]}
        return Place(**known)


def aws_settings() -> AwsSettings:
    """Return the settings of Metaflow's configuration and boto3's region. Calls no service."""
    import boto3
    from metaflow import metaflow_config as config

    return AwsSettings(
        machine_role=config.SFN_IAM_ROLE,
        events_role=config.EVENTS_SFN_ACCESS_IAM_ROLE,
        log_group=config.SFN_EXECUTION_LOG_GROUP_ARN,
        execution_role=config.ECS_FARGATE_EXECUTION_ROLE,
        name_prefix=config.SFN_STATE_MACHINE_PREFIX,
        region=boto3.session.Session().region_name,
    )
