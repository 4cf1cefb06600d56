"""Jobs of a flow: what the state of each step says of its job, with tags and parameters."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metaflow_adapters.documents import described_parameters
from metaflow_adapters.step_functions.plan.names import DEPLOYMENT_TAG
from metaflow_adapters.step_functions.plan.nodes import JobKind
from metaflow_orchestration.containers.objects import BatchObject
from metaflow_orchestration.documents.container_settings import remote_settings
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.graph.model import Step

from .job_definitions import definition_of, retries_of
from .job_settings import JobSettings, attributes_of_step
from .submission import Job
from .tags import check_tags, taggable

MAX_TAGGED_STEPS = 1500
"""Flows with more steps need the bytes of their definition, of which AWS takes 1 MiB, for the steps."""

MAX_DESCRIBED_STEPS = 1000
"""Likewise, for the parameters by which people find jobs."""

MAX_PARAMETERS_BYTES = 8_000
"""Longest description of a flow's parameters that keeps the help of each; a submission takes 30 KiB in all."""


_MAX_JOB_NAME = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """What a flow is to AWS Batch.

    :param definitions: job definitions, as ``RegisterJobDefinition`` takes them.
    :param by_step: what the state of each step says.
    """

    definitions: tuple[BatchObject, ...]
    by_step: Mapping[str, Job]


def make_jobs(manifest: Manifest, kinds: Mapping[str, JobKind], flow_variable: str, settings: JobSettings) -> Jobs:
    """Return the jobs of a flow.

    :param manifest: the compiled flow.
    :param kinds: what each step is to AWS Batch.
    :param flow_variable: value of the variable that has the flow's document.
    :param settings: what jobs need to know besides the flow.
    :raises UnsupportedFeatureError: naming the step and what AWS Batch cannot honour.
    """
    definitions: dict[str, BatchObject] = {}
    by_step = {}
    of_steps = {step.name: attributes_of_step(manifest, step, settings) for step in manifest.graph.steps}
    # By the deployment's tag policies know the jobs of a flow from those of others. If any job has tags all have it.
    given = bool(
        settings.tags
        or remote_settings(manifest).batch_emit_tags
        or any(one.get("aws_batch_tags") for one in of_steps.values())
    )
    is_tagged = given or (settings.is_tagged and len(of_steps) <= MAX_TAGGED_STEPS)
    for step in manifest.graph.steps:
        attributes = of_steps[step.name]
        definition = definition_of(manifest, step, kinds[step.name], attributes, flow_variable, settings)
        definitions[definition["jobDefinitionName"]] = definition
        tags = _tags(manifest, step, attributes, settings) if is_tagged else {}
        job = _job(manifest, step, attributes, definition["jobDefinitionName"], tags)
        by_step[step.name] = dataclasses.replace(job, share=settings.share_in(job.queue))
    return Jobs(definitions=tuple(definitions.values()), by_step=by_step)


def _job(
    manifest: Manifest, step: Step, attributes: Mapping[str, Any], definition: str, tags: Mapping[str, str]
) -> Job:
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", f"{manifest.graph.name}-{step.name}")
    return Job(
        name=readable[:_MAX_JOB_NAME],
        definition=definition,
        queue=attributes["queue"],
        tags=tags,
        parameters=_parameters(manifest) if step.name == manifest.graph.start else {},
        flow=manifest.graph.name if len(manifest.graph.steps) <= MAX_DESCRIBED_STEPS else None,
        step=step.name,
        is_recursive=step.recursive,
        has_run_tag=remote_settings(manifest).batch_emit_tags,
        retries=retries_of(step),
        delay_seconds=step.retry.delay_seconds,
    )


def _tags(manifest: Manifest, step: Step, attributes: Mapping[str, Any], settings: JobSettings) -> dict[str, str]:
    """Return the tags of a step's jobs: those that were given, the deployment's, and Metaflow's own if asked for.

    ``METAFLOW_BATCH_EMIT_TAGS`` asks for them, as for those of Metaflow's own deployer.
    """
    given = {str(key): str(one) for key, one in (attributes.get("aws_batch_tags") or {}).items()}
    emitted = {}
    if remote_settings(manifest).batch_emit_tags:
        owner = taggable(manifest.deployment.owner)
        emitted = {
            "app": "metaflow",
            "metaflow.user": owner,
            "metaflow.owner": owner,
            "metaflow.flow_name": manifest.graph.name,
            "metaflow.step_name": step.name,
        }
    found = {**emitted, **settings.tags, **given, DEPLOYMENT_TAG: manifest.deployment.name}
    # Those that say which run it is are made when it is submitted.
    total = len(found) + bool(emitted)
    check_tags({**settings.tags, **given}, total, flow=manifest.graph.name, step=step.name)
    return found


def _parameters(manifest: Manifest) -> dict[str, str]:
    """Return who deployed the flow, where Metaflow's own deployer keeps it: as parameters of the first job."""
    deployment, project = manifest.deployment, manifest.graph.project
    found = {
        "metaflow.owner": deployment.owner,
        "metaflow.flow_name": manifest.graph.name,
        "metaflow.production_token": deployment.production_token,
    }
    if manifest.graph.parameters:
        described = described_parameters(manifest.graph)
        text = json.dumps(described, separators=(",", ":"))
        if len(text.encode()) > MAX_PARAMETERS_BYTES:
            for one in described.values():
                one["description"] = None
            text = json.dumps(described, separators=(",", ":"))
        found["metaflow.parameters"] = text
    if project is not None:
        found |= {"metaflow.project_name": project.name, "metaflow.branch_name": project.branch}
    return found
