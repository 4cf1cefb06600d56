"""The secret of a deployment: addresses and keys of the endpoints that are notified of its runs."""

from __future__ import annotations

import json
from collections.abc import Mapping

from metaflow_adapters.step_functions.plan.names import DEPLOYMENT_TAG, secret_name

from .client import Aws, aws_call, code_of


def make_secret(aws: Aws, machine: str, content: Mapping[str, str]) -> str:
    """Make the secret unless it is there, and return its ARN; one that is there still serves the deployment before.

    :param aws: clients of AWS.
    :param machine: name of the state machine.
    :param content: addresses and keys.
    """
    from botocore.exceptions import ClientError

    name = secret_name(machine)
    with aws_call(f"Saving the secret {name}"):
        try:
            tags = [{"Key": DEPLOYMENT_TAG, "Value": machine}]
            return str(aws.secrets.create_secret(Name=name, SecretString=json.dumps(dict(content)), Tags=tags)["ARN"])
        except ClientError as error:
            if code_of(error) != "ResourceExistsException":
                raise
        return str(aws.secrets.describe_secret(SecretId=name)["ARN"])


def save_secret(aws: Aws, machine: str, content: Mapping[str, str]) -> str:
    """Keep addresses and keys in Secrets Manager, and return the ARN of the secret.

    :param aws: clients of AWS.
    :param machine: name of the state machine.
    :param content: addresses and keys.
    """
    make_secret(aws, machine, content)
    name = secret_name(machine)
    with aws_call(f"Saving the secret {name}"):
        return str(aws.secrets.put_secret_value(SecretId=name, SecretString=json.dumps(dict(content)))["ARN"])


def remove_secret(aws: Aws, machine: str) -> None:
    """Delete the secret that was made for a deployment, if there is one.

    :param aws: clients of AWS.
    :param machine: name of the state machine.
    """
    from botocore.exceptions import ClientError

    name = secret_name(machine)
    with aws_call("Deleting the secret"):
        try:
            tags = aws.secrets.describe_secret(SecretId=name).get("Tags", [])
            if {"Key": DEPLOYMENT_TAG, "Value": machine} in tags:
                aws.secrets.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
        except ClientError as error:
            # A deployer who may not use secrets has made none.
            if code_of(error) not in ("ResourceNotFoundException", "AccessDeniedException"):
                raise
