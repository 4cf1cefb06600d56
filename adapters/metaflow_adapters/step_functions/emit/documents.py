"""The document of a flow: all that its containers need to know besides their index path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metaflow_adapters.documents import flow_document, step_document
from metaflow_adapters.step_functions.plan.flow import reported_by
from metaflow_adapters.step_functions.plan.nodes import JobKind
from metaflow_orchestration.documents.manifest import Manifest

FOLDER = "mf.sfn"
"""Folder of the datastore for what containers report to the state machine."""


def whole_document(manifest: Manifest, kinds: Mapping[str, JobKind]) -> dict[str, Any]:
    """Return one document for all steps.

    :param manifest: the compiled flow.
    :param kinds: what each step is to AWS Batch.
    """
    shared = flow_document(manifest)
    return {
        **shared,
        "deployment": manifest.deployment.name,
        "folder": f"{FOLDER}/{manifest.graph.name}",
        "mappings": _mappings(manifest),
        "each": {step.name: _step(manifest, step.name, kinds) for step in manifest.graph.steps},
    }


def _step(manifest: Manifest, name: str, kinds: Mapping[str, JobKind]) -> dict[str, Any]:
    step, kind = manifest.graph.step(name), kinds[name]
    document = step_document(manifest, step, environment={}, outputs={}, retries=step.retry.user + step.retry.error)
    fact = reported_by(step)
    if fact is not None:
        document["tells"] = fact
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


def _mappings(manifest: Manifest) -> list[dict[str, Any]]:
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
