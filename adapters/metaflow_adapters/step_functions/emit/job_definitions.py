"""Job definitions of AWS Batch: one for each distinct setting of containers, named by its content."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from metaflow_adapters.step_functions.plan.names import DEPLOYMENT_TAG
from metaflow_adapters.step_functions.plan.nodes import JobKind
from metaflow_orchestration.containers.batch_jobs import container_overrides, job_definition, task_environment
from metaflow_orchestration.containers.command import FLOW_VARIABLE, container_command, encode_inline, first_environment
from metaflow_orchestration.containers.objects import BatchObject
from metaflow_orchestration.containers.options import deadline_of
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.graph.model import Step
from metaflow_orchestration.run.commands import NO_RETRY

from .job_settings import JobSettings

DEFAULT_LOG_GROUP = "/aws/batch/job"
"""Where AWS Batch keeps the logs of jobs that name no group."""


MAX_DEFINITION_BYTES = 20_000
"""AWS Batch takes job definitions of 24 KiB (service quotas); a longer flow document goes to the datastore."""


AFTER = "-after"
"""What the name of the job definition ends with that only the machine that follows runs uses."""


_DIGEST = 16


def definition_of(
    manifest: Manifest,
    step: Step,
    kind: JobKind,
    attributes: Mapping[str, Any],
    flow_variable: str,
    settings: JobSettings,
) -> BatchObject:
    """Return the job definition of a step, as ``RegisterJobDefinition`` takes it.

    :param manifest: the compiled flow.
    :param step: the step.
    :param kind: what the step is to AWS Batch.
    :param attributes: its attributes of ``@batch``, see :func:`~.job_settings.attributes_of_step`.
    :param flow_variable: value of the variable with the flow's document.
    :param settings: what jobs need to know besides the flow.
    """
    platform = settings.platform.get(attributes["queue"], "EC2")
    gang = kind is JobKind.GANG
    definition = job_definition(
        attributes,
        command=container_command(manifest, manifest.code, step.name),
        platform=platform,
        gang=gang,
        flow=manifest.graph.name,
        step=step.name,
    )
    variables = {
        **first_environment(manifest, manifest.code),
        **task_environment(attributes),
        FLOW_VARIABLE: flow_variable,
    }
    container = definition["nodeProperties"]["nodeRangeProperties"][0]["container"] if gang else None
    container = container or definition["containerProperties"]
    container.update(container_overrides(attributes, variables))
    definition["timeout"] = {"attemptDurationSeconds": deadline_of(step)}
    if kind is JobKind.ARRAY and retries_of(step):
        definition["retryStrategy"] = _retry_strategy(step)
    # A parameter in place of a tag, for which the deployer would need one permission more.
    definition["parameters"] = {DEPLOYMENT_TAG: manifest.deployment.name, "metaflow.flow_name": manifest.graph.name}
    if settings.share_in(attributes["queue"]):
        # AWS Batch takes no job for a share without a priority in it.
        definition["schedulingPriority"] = 0
    named = {name: value for name, value in definition.items() if name != "jobDefinitionName"}
    digest = hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()
    return {"jobDefinitionName": f"{definition_stem(manifest.deployment.name)}{digest[:_DIGEST]}", **named}


def definition_stem(machine: str) -> str:
    """Return what the names of the job definitions of a deployment begin with.

    The rest is a hash of their content. Policies know by it the definitions of later versions of the flow, too.

    :param machine: name of the state machine.
    """
    # AWS Batch takes letters, digits, hyphens and underscores.
    return f"metaflow-{re.sub(r'[^A-Za-z0-9_-]', '-', machine)}-"


def definition_patterns(machine: str) -> tuple[str, ...]:
    """Return patterns of IAM for the names of the job definitions of a deployment.

    :param machine: name of the state machine.
    """
    # As many single wildcards as there are digits: `*` would match those of a machine whose name begins the same.
    own = f"{definition_stem(machine)}{'?' * _DIGEST}"
    return own, f"{own}{AFTER}"


def _retry_strategy(step: Step) -> BatchObject:
    """Return the retries of an array's jobs, which no state tries again one by one."""
    return {
        "attempts": retries_of(step) + 1,
        "evaluateOnExit": [
            {"onExitCode": str(NO_RETRY), "action": "EXIT"},
            {"onReason": "*", "action": "RETRY"},
        ],
    }


def retries_of(step: Step) -> int:
    """Return how often a job of a step is tried again.

    :param step: the step.
    """
    return step.retry.user + step.retry.error


def inline_document(document: Mapping[str, Any]) -> tuple[str, bytes | None]:
    """Return a flow's document as text, and as bytes for the datastore if it is too long for a job definition.

    :param document: JSON types.
    """
    import base64

    encoded = encode_inline(document)
    return (encoded, None) if len(encoded) <= MAX_DEFINITION_BYTES // 2 else ("", base64.b64decode(encoded))
