"""The document of a flow: all that its containers need to know besides their index path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict, cast

from metaflow_adapters.documents import FlowDocument, StepDocument, flow_document, step_document
from metaflow_adapters.step_functions.plan.flow import reported_by
from metaflow_adapters.step_functions.plan.nodes import JobKind
from metaflow_orchestration.documents.manifest import Manifest

FOLDER = "mf.sfn"
"""Folder of the datastore for what containers report to the state machine."""


class PlacedStep(StepDocument, total=False):
    """What a job needs to know of its step.

    :param reports: which fact it reports to the state machine.
    :param is_loop: whether its tasks have an iteration.
    :param counts_submissions: whether each try is a submission of its own, so that AWS Batch counts none.
    :param delay: pause between two tries, in seconds, where AWS Batch tries again.
    :param is_array: whether the splits that it makes are an array job.
    :param defaults: of the start step: default values of parameters, as they were when the flow was deployed.
    :param required: of the start step: names of the parameters that must be given.
    """

    reports: str
    is_loop: bool
    counts_submissions: bool
    delay: float
    is_array: bool
    defaults: dict[str, str | None]
    required: list[str]


class EventMapping(TypedDict):
    """How the payload of an event becomes parameters.

    :param event: name of the event.
    :param of_run: whether it is the end of a run.
    :param parameters: pairs of a parameter and the field that it takes.
    :param all_needed: whether a field that is missing is an error.
    """

    event: str
    of_run: bool
    parameters: list[list[str]]
    all_needed: bool


class WholeDocument(FlowDocument):
    """What the jobs of a flow need to know besides their place in its graph.

    :param deployment: name of the state machine.
    :param folder: folder of the datastore for what they report.
    :param mappings: how the payloads of events become parameters.
    :param each: what is known of each step, by name.
    """

    deployment: str
    folder: str
    mappings: list[EventMapping]
    each: dict[str, PlacedStep]


def whole_document(manifest: Manifest, kinds: Mapping[str, JobKind]) -> WholeDocument:
    """Return one document for all steps.

    :param manifest: the compiled flow.
    :param kinds: what each step is to AWS Batch.
    """
    return {
        **flow_document(manifest),
        "deployment": manifest.deployment.name,
        "folder": f"{FOLDER}/{manifest.graph.name}",
        "mappings": _mappings(manifest),
        "each": {step.name: _step(manifest, step.name, kinds) for step in manifest.graph.steps},
    }


def _step(manifest: Manifest, name: str, kinds: Mapping[str, JobKind]) -> PlacedStep:
    step, kind = manifest.graph.step(name), kinds[name]
    retries = step.retry.user + step.retry.error
    # All that it has besides may be left out.
    document = cast("PlacedStep", step_document(manifest, step, environment={}, outputs={}, retries=retries))
    fact = reported_by(step)
    if fact is not None:
        document["reports"] = fact
    if step.recursive:
        document["is_loop"] = True
    if kind is not JobKind.ARRAY:
        document["counts_submissions"] = True
    elif step.retry.delay_seconds:
        document["delay"] = step.retry.delay_seconds
    if fact == "splits" and kinds[step.next_steps[0]] is JobKind.ARRAY:
        document["is_array"] = True
    if step.name == manifest.graph.start:
        # As they were when the flow was deployed; the task would evaluate them again.
        document["defaults"] = {one.name: one.default for one in manifest.graph.parameters if one.default is not None}
        document["required"] = [one.name for one in manifest.graph.parameters if one.required and one.default is None]
    return document


def _mappings(manifest: Manifest) -> list[EventMapping]:
    """Return how the payloads of events become parameters."""
    return [
        {
            "event": one.event,
            "of_run": one.of_run,
            "parameters": [list(pair) for pair in one.parameters],
            "all_needed": one.all_needed,
        }
        for one in manifest.graph.triggers
    ]
