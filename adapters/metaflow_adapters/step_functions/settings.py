"""How this installation uses AWS: Metaflow's configuration."""

from __future__ import annotations

from dataclasses import dataclass

from metaflow_adapters.step_functions.permissions.roles import Place


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
