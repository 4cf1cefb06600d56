"""What a flow is on Argo Workflows: live Hera objects, as YAML for GitOps or applied to a server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_metaflow.flow.manifest import Manifest

from .differences import difference
from .yaml_text import to_yaml

if TYPE_CHECKING:
    from hera.workflows import CronWorkflow, WorkflowsService, WorkflowTemplate


@dataclass(frozen=True, kw_only=True)
class ArgoDeployment:
    """A deployed flow. The objects are live: change them as you like before you apply them.

    :param template: the workflow template.
    :param cron: what starts it by ``@schedule``; None without one.
    :param sensor: Argo Events' sensor that starts it by ``@trigger`` or ``@trigger_on_finish``; None without one.
    :param manifest: the compiled flow.
    """

    template: WorkflowTemplate
    cron: CronWorkflow | None
    sensor: dict[str, Any] | None
    manifest: Manifest

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return all objects as plain data, as Kubernetes takes them."""
        return list(self._dicts())

    def _dicts(self) -> Iterator[dict[str, Any]]:
        yield self.template.to_dict()
        if self.cron is not None:
            yield self.cron.to_dict()
        if self.sensor is not None:
            yield self.sensor

    def to_yaml(self) -> str:
        """Return all objects as one YAML text, for ``kubectl apply -f -`` or a GitOps repository.

        Equal flows give equal bytes.
        """
        return "---\n".join(to_yaml(one) for one in self._dicts())

    def to_file(self, folder: Path | str) -> Path:
        """Write the YAML text to ``<folder>/<name>.yaml``, and return the path.

        :param folder: where to; it is made if it is missing.
        """
        path = Path(folder) / f"{self.template.name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.to_yaml(), encoding="utf-8")
        return path

    def apply(self, service: WorkflowsService) -> None:
        """Create or replace template and cron workflow on an Argo server.

        :param service: Hera's service. Sensors are not Argo Workflows' own, so it cannot take them; see
            :meth:`to_yaml` and ``argo create``.
        :raises ValueError: if there is a sensor.
        """
        if self.sensor is not None:
            raise ValueError(
                f"{self.template.name} has a sensor, which the server of Argo Workflows does not take. "
                "Apply `to_yaml()` with kubectl, or deploy by `python flow.py argo create`."
            )
        self.template.workflows_service = service
        self.template.update()
        if self.cron is not None:
            self.cron.workflows_service = service
            self.cron.update()

    def diff(self, service: WorkflowsService) -> str:
        """Return how template and cron workflow on an Argo server differ, as unified diffs; empty if they do not.

        What is not on the server differs as a whole.

        :param service: Hera's service.
        """
        found = self._difference(self.template, service.get_workflow_template)
        if self.cron is not None:
            found += self._difference(self.cron, service.get_cron_workflow)
        return found

    @staticmethod
    def _difference(here: WorkflowTemplate | CronWorkflow, get: Callable[..., Any]) -> str:
        from hera.exceptions import NotFound

        there = None
        with suppress(NotFound):
            there = json.loads(get(here.name, namespace=here.namespace).json(exclude_none=True, by_alias=True))
        return difference(f"{here.kind} {here.name}", there, here.to_dict())
