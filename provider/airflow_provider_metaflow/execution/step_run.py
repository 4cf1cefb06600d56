"""The Metaflow run that a try of a step works for, and the flow that the run began with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_metaflow.compute.local.processes import LocalCompute
from metaflow_orchestration.containers.placement import Placement
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.run.outcome import InstanceOutcome, check_graph

from .first_manifest import begun_with
from .step_definition import StepDefinition


@dataclass(frozen=True, slots=True)
class StepRun:
    """A Metaflow run, for the tasks of one step.

    :param run_id: its id; empty if no task of it has reported a result.
    :param definition: the step, as it was when the run began.
    :param manifest: digest of the manifest that the run began with; empty if it is not known.
    """

    run_id: str
    definition: StepDefinition
    manifest: str = ""


def begun_run(
    run_id: str,
    reported: InstanceOutcome | None,
    deployed: StepDefinition,
    local: Callable[[], LocalCompute],
    place: Callable[[Manifest], Placement],
) -> StepRun:
    """Return a run with the flow that it began with, whatever has been deployed since.

    :param run_id: its id.
    :param reported: what a task before this one has reported, or the record of the start step; None if there is none.
    :param deployed: the step, as it is deployed now.
    :param local: returns the worker's own access to the datastore.
    :param place: returns where the step of a compiled flow runs.
    :raises RedeployedError: if a flow with another graph was deployed since.
    :raises EditedXComError: if the report names something that is no manifest of this flow.
    :raises MissingResultError: if the manifest is gone from the datastore.
    """
    if reported is None:
        return StepRun(run_id, deployed)
    # Of the record in the datastore; that of XComs was checked when they were read.
    check_graph(deployed.graph, deployed.step, deployed.code.sha, reported)
    manifest = begun_with(deployed.manifest, reported, local)
    # A deployment since may have changed its decorators: those that the run began with count.
    return StepRun(run_id, StepDefinition(manifest, deployed.name, place(manifest)), reported.manifest)
