"""Runs of deployed flows: started, looked at, ended. Each is a workflow of Argo's, found by its run id."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from metaflow_adapters.argo.cluster.client import CRONS, SENSORS, TEMPLATES, WORKFLOWS, ArgoCluster
from metaflow_adapters.argo.cluster.objects import ArgoObject
from metaflow_adapters.argo.objects.metadata import (
    BRANCH,
    FLOW,
    ORIGIN,
    OWNER,
    PROJECT,
    SENSOR,
    SENSOR_NAMESPACE,
    TOKEN,
    notify_secret,
)
from metaflow_adapters.argo.objects.values import sealed, unsealed
from metaflow_adapters.documents import origin_text
from metaflow_adapters.ownership import check_owner
from metaflow_orchestration.exceptions import InvalidOptionError

from .caller import Caller
from .ending import ACTIVE, end_gangs, phase_of
from .lookup import PREFIX, RunLookup, status_of
from .starting import submit

__all__ = ["ArgoRuns", "Caller", "delete_sensor", "deployed_templates", "status_of"]

_NO_PARAMETERS: Mapping[str, str] = MappingProxyType({})


class ArgoRuns(RunLookup):
    """The runs of one deployment.

    :param cluster: where it is deployed.
    :param name: name of its workflow template.
    :param flow: name of the flow, for errors.
    """

    def start(self, parameters: Mapping[str, str]) -> str:
        """Start a run and return its run id.

        :param parameters: values by name.
        :raises InvalidOptionError: if a parameter is not the flow's, or a required one is missing.
        """
        template = self.template()
        known = {one["name"]: one for one in template["spec"].get("arguments", {}).get("parameters", [])}
        for name in parameters:
            if name not in known:
                raise InvalidOptionError(f"there is no parameter {name!r}.", flow=self._flow, hint=_listed(known))
        missing = [name for name, one in known.items() if "value" not in one and name not in parameters]
        if missing:
            raise InvalidOptionError(
                f"the parameter {missing[0]!r} is required.", flow=self._flow, hint=f"Give it by --{missing[0]}."
            )
        given = [{"name": name, "value": sealed(value)} for name, value in parameters.items()]
        workflow: ArgoObject = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Workflow",
            "metadata": {"generateName": f"{self._name}-", "namespace": self._cluster.namespace},
            "spec": {
                "workflowTemplateRef": {"name": self._name},
                **({"arguments": {"parameters": given}} if given else {}),
            },
        }
        return f"{PREFIX}{submit(self._cluster, workflow, template)}"

    def owned(self, run_id: str, caller: Caller) -> ArgoObject:
        """Return the workflow of a run that the caller may change.

        :param run_id: its run id.
        :param caller: who asks.
        :raises InvalidOptionError: if it is of another flow, project or branch, or of somebody else.
        """
        found = self.find(run_id)
        notes = self._notes(found)
        for key, own, what in (
            (FLOW, caller.flow, "flow"),
            (PROJECT, caller.project, "project"),
            (BRANCH, caller.branch, "branch"),
        ):
            if notes.get(key) != own:
                raise InvalidOptionError(
                    f"the run {run_id} belongs to the {what} {notes.get(key)!r}, not to {own!r}.", flow=self._flow
                )
        self._check_owner(notes, caller, f"the run {run_id} belongs to a deployment of")
        return found

    def _check_owner(self, notes: Mapping[str, str], caller: Caller, whose: str) -> None:
        owner, owned = notes.get(OWNER), notes.get(TOKEN)
        check_owner(self._flow, whose, user=caller.user, token=caller.token, owner=owner, owned=owned)

    def terminate(self, run_id: str, caller: Caller) -> None:
        """End a run, with the Jobs and JobSets of its gangs, which would run on for as long as they want.

        :param run_id: its run id.
        :param caller: who asks.
        """
        end_gangs(self._cluster, self._change(run_id, caller, "terminated", {"spec": {"shutdown": "Terminate"}}))

    def suspend(self, run_id: str, caller: Caller) -> None:
        """Start no further tasks of a run.

        :param run_id: its run id.
        :param caller: who asks.
        """
        self._change(run_id, caller, "suspended", {"spec": {"suspend": True}})

    def unsuspend(self, run_id: str, caller: Caller) -> None:
        """Go on with a suspended run.

        :param run_id: its run id.
        :param caller: who asks.
        """
        self._change(run_id, caller, "unsuspended", {"spec": {"suspend": None}})

    def _change(self, run_id: str, caller: Caller, what: str, change: Mapping[str, Any]) -> ArgoObject:
        found = self.owned(run_id, caller)
        phase = phase_of(found)
        if phase not in ACTIVE:
            raise InvalidOptionError(f"the run {run_id} has {phase.lower()} and cannot be {what}.", flow=self._flow)
        self._cluster.patch(WORKFLOWS, found["metadata"]["name"], change)
        return found

    def resume(
        self,
        run_id: str,
        caller: Caller,
        rerun: tuple[str, ...],
        parameters: Mapping[str, str] = _NO_PARAMETERS,
        *,
        stored: Callable[[], Mapping[str, str] | None] = lambda: None,
    ) -> str:
        """Start a run that clones the finished tasks of another, and return its run id.

        :param run_id: the run to resume.
        :param caller: who asks.
        :param rerun: steps that run again in any case.
        :param parameters: values by name; all others are those of the other run.
        :param stored: returns the required parameters of a run that is no workflow here, None if there is none.
        :raises InvalidOptionError: as :meth:`start` does, or if the other run has not ended.
        """
        values = self._values_of(run_id, caller, stored)
        return self.start({**values, **parameters, ORIGIN: origin_text(run_id, rerun, parameters, self._flow)})

    def _values_of(
        self, run_id: str, caller: Caller, stored: Callable[[], Mapping[str, str] | None]
    ) -> Mapping[str, str]:
        """Return the parameters that a run was started with; of a run of another deployer those that must be given."""
        name = run_id.removeprefix(PREFIX)
        if name == run_id or self._cluster.find(WORKFLOWS, name) is None:
            # Made elsewhere, or a workflow that Argo has deleted since.
            values = stored()
            if values is not None:
                return values
        found = self.owned(run_id, caller)
        if phase_of(found) in ACTIVE:
            raise InvalidOptionError(
                f"the run {run_id} has not ended.", flow=self._flow, hint="Terminate it first, or wait."
            )
        given = found["spec"].get("arguments", {}).get("parameters", [])
        known = {one["name"] for one in self.template()["spec"].get("arguments", {}).get("parameters", [])}
        return {one["name"]: unsealed(one["value"]) for one in given if one["name"] in known and "value" in one}

    def delete(self, caller: Caller) -> None:
        """Delete all that ``create`` has made.

        :param caller: who asks.
        :raises InvalidOptionError: if the deployment is somebody else's.
        """
        template = self.template()
        self._check_owner(template["metadata"].get("annotations") or {}, caller, f"{self._name} was deployed by")
        # The template last: without it nobody would know whose the others are.
        self._cluster.delete(CRONS, self._name)
        delete_sensor(self._cluster, template)
        self._cluster.delete_secret(notify_secret(self._name))
        self._cluster.delete(TEMPLATES, self._name)


def delete_sensor(cluster: ArgoCluster, template: ArgoObject, *, dry_run: bool = False) -> None:
    """Delete the sensor of a deployment, if it has one.

    :param cluster: where it is deployed.
    :param template: its workflow template, which names the sensor.
    :param dry_run: whether the API server only says whether it would.
    """
    notes = template["metadata"].get("annotations") or {}
    if notes.get(SENSOR):
        cluster.delete(SENSORS, notes[SENSOR], notes.get(SENSOR_NAMESPACE), dry_run=dry_run)


def deployed_templates(cluster: ArgoCluster, flow: str | None) -> Iterator[str]:
    """Yield the names of the templates that hold a flow.

    :param cluster: where to look.
    :param flow: name of the flow; None for all flows.
    """
    for one in cluster.every(TEMPLATES):
        found = (one["metadata"].get("annotations") or {}).get(FLOW)
        if found is not None and flow in (None, found):
            yield one["metadata"]["name"]


def _listed(known: Mapping[str, Any]) -> str:
    own = [name for name, one in known.items() if not one.get("description", "").startswith("auto-set")]
    return f"Parameters are: {', '.join(own) or 'none'}."
