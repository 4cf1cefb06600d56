"""Who may change a deployed flow."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_metaflow.deploy.record import DeploymentRecord
from metaflow_orchestration.compile.token_proof import is_proof_of
from metaflow_orchestration.exceptions import InvalidOptionError


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks for something.

    :param user: user name.
    :param token: production token that was given, or that this machine remembers.
    """

    user: str | None
    token: str | None


def check_owner(record: DeploymentRecord, name: str, caller: Caller) -> None:
    """Check that somebody may change a deployment: they made it, or have its token.

    The rule of Metaflow's other deployers (``argo_workflows_cli.validate_token``).

    :param record: the deployment.
    :param name: its name.
    :param caller: who asks.
    :raises InvalidOptionError: if they may not.
    """
    if caller.user == record.owner:
        return
    if caller.token is not None and not record.token_proof:
        raise InvalidOptionError(
            f"{name} was deployed by an older release, which has left nothing to check a token by.",
            flow=record.flow,
            hint=f"The user {record.owner} may change it, or deploy it again with `airflow create`.",
        )
    if caller.token is None or not is_proof_of(record.token_proof, caller.token, record.deployment):
        raise InvalidOptionError(
            f"{name} was deployed to Airflow by the user {record.owner}; their production token is needed.",
            flow=record.flow,
            hint="Ask them for it and give it with --authorize.",
        )
