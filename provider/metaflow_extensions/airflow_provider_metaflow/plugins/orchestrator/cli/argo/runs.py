"""What ``python flow.py argo trigger``, ``status``, ``terminate`` and so on do with runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from metaflow import current
from metaflow.metaflow_config import ARGO_WORKFLOWS_UI_URL
from metaflow.util import get_username

from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.adapter_runs import AdapterRuns
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.adapters import known_token
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.messages import print_data, print_json
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.target import Values


class ArgoGroupRuns(AdapterRuns):
    """The runs of a workflow template.

    :param obj: state of Metaflow's command line.
    :param adapter: the adapter's module ``runs``.
    """

    going_on = ("Pending", "Running", "Suspended")
    succeeded = "Succeeded"
    what = "Workflow"
    done = {"terminate": "is terminated", "suspend": "is suspended", "unsuspend": "continues"}

    def __init__(self, obj: Any, adapter: Any) -> None:
        super().__init__(obj, adapter.ArgoRuns(obj.argo_cluster, obj.argo_name.name, obj.flow.name))
        self._adapter = adapter

    def caller(self, authorize: str | None) -> Any:
        """Return who asks."""
        return self._adapter.Caller(
            flow=self.obj.flow.name,
            user=get_username(),
            project=current.get("project_name"),
            branch=current.get("branch_name"),
            token=known_token(self.obj.argo_name.token_prefix, authorize),
        )

    def status_of(self, found: Any) -> str:
        """Return the status of a workflow."""
        return str(self._adapter.status_of(found))

    def name(self) -> str:
        """Return the name of the workflow template."""
        return str(self.obj.argo_name.name)

    def deployed(self, flow: str | None) -> Iterable[str]:
        """Return the workflow templates of a flow, or of all flows."""
        found: Iterable[str] = self._adapter.deployed_templates(self.obj.argo_cluster, flow)
        return found

    def link(self, run_id: str) -> str | None:
        """Return a sentence about where Argo's user interface has a run."""
        if not ARGO_WORKFLOWS_UI_URL:
            return None
        where = (ARGO_WORKFLOWS_UI_URL.rstrip("/"), self.obj.argo_cluster.namespace, run_id.removeprefix("argo-"))
        return "See the run in the Argo Workflows UI at %s/workflows/%s/%s" % where

    def list_runs(self, options: Values, *, as_json: bool) -> None:
        """Print the workflows of the template."""
        found = self.runs.every()
        if as_json:
            flow = self.obj.flow.name
            print_json(
                [
                    {"run": "%s/%s" % (flow, run_id), "status": state, "created": created}
                    for run_id, state, created in found
                ]
            )
            return
        for run_id, state, created in found:
            print_data("%s  %-10s %s" % (created, state, run_id))

    def log_lines(self, run_id: str, step: str | None) -> Iterator[tuple[str, str]]:
        """Return the lines of the logs of pods."""
        for node, text in self.runs.logs(run_id, step):
            yield from ((node, line) for line in text.splitlines())
