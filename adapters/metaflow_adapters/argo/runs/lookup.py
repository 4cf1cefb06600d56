"""Runs of deployed flows as they can be looked at: found, listed, their status and logs."""

from __future__ import annotations

from collections.abc import Iterator

from metaflow_adapters.argo.cluster.client import TEMPLATES, WORKFLOWS, ArgoCluster
from metaflow_adapters.argo.cluster.objects import ArgoObject
from metaflow_adapters.argo.objects.metadata import FLOW, OWNER, STEP_LABEL, WORKFLOW_LABEL
from metaflow_orchestration.containers.pods import label_value
from metaflow_orchestration.exceptions import InvalidOptionError

from .ending import phase_of

PREFIX = "argo-"
_WORKFLOW_LABELS = ("workflows.argoproj.io/workflow", WORKFLOW_LABEL)


class RunLookup:
    """The runs of one deployment, as far as they are only looked at.

    :param cluster: where it is deployed.
    :param name: name of its workflow template.
    :param flow: name of the flow, for errors.
    """

    def __init__(self, cluster: ArgoCluster, name: str, flow: str) -> None:
        self._cluster, self._name, self._flow = cluster, name, flow

    def template(self) -> ArgoObject:
        """Return the deployed template.

        :raises InvalidOptionError: if there is none, or it holds no flow.
        """
        found = self._cluster.find(TEMPLATES, self._name)
        if found is None:
            raise InvalidOptionError(
                f"there is no workflow template {self._name!r} in the namespace {self._cluster.namespace!r}.",
                flow=self._flow,
                hint="Deploy the flow first: argo create.",
            )
        if OWNER not in (found["metadata"].get("annotations") or {}):
            raise InvalidOptionError(
                f"the workflow template {self._name!r} was not made from a Metaflow flow.", flow=self._flow
            )
        return found

    def find(self, run_id: str) -> ArgoObject:
        """Return the workflow of a run.

        :param run_id: its run id.
        :raises InvalidOptionError: if there is none of this flow.
        """
        if not run_id.startswith(PREFIX):
            raise InvalidOptionError(
                f"run ids of Argo Workflows start with {PREFIX!r}; got {run_id!r}.", flow=self._flow
            )
        found = self._cluster.find(WORKFLOWS, run_id.removeprefix(PREFIX))
        if found is None or self._notes(found).get(FLOW, self._flow) != self._flow:
            raise InvalidOptionError(
                f"there is no run {run_id!r} in the namespace {self._cluster.namespace!r}.",
                flow=self._flow,
                hint="See `argo list-runs`; Argo deletes old workflows.",
            )
        return found

    def _notes(self, workflow: ArgoObject) -> dict[str, str]:
        """Return the annotations of a workflow, over those of its template."""
        return {**self._notes_of_template(workflow), **(workflow["metadata"].get("annotations") or {})}

    def _notes_of_template(self, workflow: ArgoObject) -> dict[str, str]:
        """Return the annotations of a workflow that its controller has not yet looked at."""
        stored = workflow.get("status", {}).get("storedWorkflowTemplateSpec", {}).get("workflowMetadata", {})
        spec = workflow["spec"].get("workflowMetadata", {})
        found: dict[str, str] = {**(spec.get("annotations") or {}), **(stored.get("annotations") or {})}
        if not found:
            template = self._cluster.find(TEMPLATES, workflow["spec"].get("workflowTemplateRef", {}).get("name", ""))
            found = (template or {}).get("metadata", {}).get("annotations") or {}
        return found

    def every(self) -> Iterator[tuple[str, str, str]]:
        """Yield run id, status and start of all runs of the deployment, the newest first."""
        # Not by a label: a workflow that the controller has not looked at has none.
        found = [
            one
            for one in self._cluster.every(WORKFLOWS)
            if (one["spec"].get("workflowTemplateRef") or {}).get("name") == self._name
        ]
        for one in sorted(found, key=lambda one: one["metadata"]["creationTimestamp"], reverse=True):
            metadata = one["metadata"]
            yield f"{PREFIX}{metadata['name']}", status_of(one), metadata["creationTimestamp"]

    def logs(self, run_id: str, step: str | None = None) -> Iterator[tuple[str, str]]:
        """Yield node and log of the pods of a run.

        :param run_id: its run id.
        :param step: name of a step, for its pods only.
        """
        name = self.find(run_id)["metadata"]["name"]
        of_step = f",{STEP_LABEL}={label_value(step)}" if step else ""
        # Argo's own pods have its label, those of gangs ours.
        pods = [pod for label in _WORKFLOW_LABELS for pod in self._cluster.pods(f"{label}={name}{of_step}")]
        for pod in pods:
            node = (pod.metadata.annotations or {}).get("workflows.argoproj.io/node-name", pod.metadata.name)
            yield node, self._cluster.log(pod.metadata.name)


def status_of(workflow: ArgoObject) -> str:
    """Return the status of a run in Metaflow's words; of those of Argo, an error is a failure.

    :param workflow: the workflow.
    """
    phase = phase_of(workflow) or "Pending"
    if phase == "Running" and workflow["spec"].get("suspend"):
        return "Suspended"
    return "Failed" if phase == "Error" else str(phase)
