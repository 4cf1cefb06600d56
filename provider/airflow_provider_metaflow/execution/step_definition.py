"""A step as its flow was compiled: as it is deployed now, or as it was when the run began."""

from __future__ import annotations

from dataclasses import dataclass

from metaflow_orchestration.containers.placement import Placement
from metaflow_orchestration.documents.manifest import CodePackage, Manifest
from metaflow_orchestration.graph.model import FlowGraph, Step


@dataclass(frozen=True, slots=True)
class StepDefinition:
    """A step of a compiled flow, and where it runs.

    :param manifest: the compiled flow.
    :param name: name of the step.
    :param placement: where the step runs.
    """

    manifest: Manifest
    name: str
    placement: Placement

    @property
    def graph(self) -> FlowGraph:
        """The flow."""
        return self.manifest.graph

    @property
    def step(self) -> Step:
        """The step."""
        return self.manifest.graph.step(self.name)

    @property
    def code(self) -> CodePackage:
        """The code package that its tasks use."""
        return self.manifest.code
