"""A real AWS account, for the contract tests: `TEST_AWS=1` and Metaflow's settings for it in the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .step_functions import StepFunctions

ASKED = os.environ.get("TEST_AWS") == "1"

NOT_RUN = "AWS contract tests: not run; TEST_AWS=1 runs them in a real account (CONTRIBUTING.md)."

NEEDED = (
    "AWS_DEFAULT_REGION",
    "METAFLOW_DATASTORE_SYSROOT_S3",
    "METAFLOW_BATCH_JOB_QUEUE",
    "METAFLOW_BATCH_CONTAINER_IMAGE",
    "METAFLOW_ECS_S3_ACCESS_IAM_ROLE",
    "METAFLOW_SFN_IAM_ROLE",
    "METAFLOW_EVENTS_SFN_ACCESS_IAM_ROLE",
    "METAFLOW_SERVICE_URL",
)
"""Settings without which no flow runs there; as `tests/conftest.py` found them."""


class RealStore:
    """The account's bucket, where the local engine has its object store."""

    log = Path(os.devnull)
    """Logs of jobs are in CloudWatch."""

    def __init__(self, root: str) -> None:
        self.root = root

    def client(self, service: str) -> Any:
        """Return a client of the environment's credentials."""
        import boto3

        return boto3.client(service)


def states_arn(aws: StepFunctions) -> str:
    """Return the beginning of the ARNs of machines and executions of the account."""
    caller = aws.client("sts").get_caller_identity()["Arn"].split(":")
    return f"arn:{caller[1]}:states:{os.environ['AWS_DEFAULT_REGION']}:{caller[4]}"


def real_step_functions(settings: dict[str, str]) -> StepFunctions:
    """Return Step Functions of the account.

    :param settings: settings of AWS and Metaflow for it.
    :raises AssertionError: naming the settings that are missing.
    """
    from .step_functions import StepFunctions

    missing = [name for name in NEEDED if not settings.get(name)]
    assert not missing, f"TEST_AWS=1 needs {', '.join(missing)}"
    store: Any = RealStore(settings["METAFLOW_DATASTORE_SYSROOT_S3"])
    return StepFunctions(
        store,
        {**settings, "METAFLOW_DEFAULT_DATASTORE": "s3", "METAFLOW_DEFAULT_METADATA": "service"},
        enforces=False,
    )
