"""What a flow is on Argo Workflows: live Hera objects, YAML for GitOps, or applied to a server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaflow_adapters.argo.cluster.objects import ArgoObject
from metaflow_adapters.argo.cluster.suspension import is_kept_suspended, suspending
from metaflow_adapters.argo.objects.plain import plain
from metaflow_adapters.argo.objects.spec import Spec, live
from metaflow_orchestration.containers.objects import KubernetesObject
from metaflow_orchestration.documents.manifest import Manifest

if TYPE_CHECKING:
    from hera.workflows import CronWorkflow, WorkflowsService, WorkflowTemplate


class ArgoDeployment:
    """A deployed flow. The objects are live: change them as you like before you apply them.

    They are made when somebody asks for one of them: the command line needs only :meth:`to_dicts`, and no Hera.

    ```python
    from metaflow_adapters.argo import compile_flow

    deployment = compile_flow("flows/training.py")
    deployment.template.labels["team"] = "ml"
    deployment.to_file("build/")
    ```

    New in version 0.1.0.

    :param template: the workflow template to be.
    :param cron: the cron workflow to be, None without a schedule.
    :param sensor: see :attr:`sensor`.
    :param manifest: see :attr:`manifest`.
    """

    def __init__(
        self, template: Spec, cron: Spec | None, *, sensor: KubernetesObject | None, manifest: Manifest
    ) -> None:
        self._template, self._cron = template, cron
        self.sensor = sensor
        """Argo Events' sensor that starts it by ``@trigger`` or ``@trigger_on_finish``; None without one."""
        self.manifest = manifest
        """The compiled flow."""

    @cached_property
    def template(self) -> WorkflowTemplate:
        """The workflow template."""
        made: WorkflowTemplate = live(self._template)
        return made

    @cached_property
    def cron(self) -> CronWorkflow | None:
        """What starts it by ``@schedule``; None without one."""
        made: CronWorkflow | None = live(self._cron)
        return made

    def to_dicts(self) -> list[KubernetesObject]:
        """Return all objects as plain data, as Kubernetes takes them."""
        return list(self._dicts())

    def _dicts(self) -> Iterator[KubernetesObject]:
        yield self.template.to_dict() if "template" in self.__dict__ else plain(self._template)
        if self._cron is not None:
            yield self.cron.to_dict() if "cron" in self.__dict__ else plain(self._cron)  # type: ignore[union-attr]
        if self.sensor is not None:
            yield self.sensor

    def to_yaml(self) -> str:
        """Return all objects as one YAML text, for ``kubectl apply -f -`` or a GitOps repository.

        Equal flows give equal bytes.
        """
        from metaflow_adapters.argo.objects.yaml_text import to_yaml

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

        A schedule that somebody has suspended there stays so, and one that the flow has no longer is suspended.

        :param service: Hera's service. Sensors are not Argo Workflows' own, so it cannot take them; see
            :meth:`to_yaml` and ``argo create``.
        :raises ValueError: if there is a sensor.
        """
        if self.sensor is not None:
            raise ValueError(
                f"{self.template.name} has a sensor, which the server of Argo Workflows does not take. "
                "Apply `to_yaml()` with kubectl, or deploy by `python flow.py argo create`."
            )
        there = self._there(self.template, service.get_cron_workflow)
        self.template.workflows_service = service
        self.template.update()
        if self.cron is not None:
            if is_kept_suspended(there) and self.cron.cron_suspend is None:
                self.cron.cron_suspend = True
            self.cron.workflows_service = service
            self.cron.update()
        elif there is not None:
            self._suspend(there, service)

    def _suspend(self, there: ArgoObject, service: WorkflowsService) -> None:
        from hera.workflows import models as m

        change = suspending(there)
        if not change:
            return
        notes = {**(there["metadata"].get("annotations") or {}), **change["metadata"]["annotations"]}
        there = {**there, "metadata": {**there["metadata"], "annotations": notes}}
        there["spec"] = {**there["spec"], **change["spec"]}
        request = m.UpdateCronWorkflowRequest(cron_workflow=m.CronWorkflow.model_validate(there))
        service.update_cron_workflow(str(self.template.name), request, namespace=self.template.namespace)

    def diff(self, service: WorkflowsService) -> str:
        """Return how template and cron workflow on an Argo server differ, as unified diffs; empty if they do not.

        What is not on the server differs as a whole.

        :param service: Hera's service.
        """
        found = self._difference(self.template, service.get_workflow_template)
        if self.cron is not None:
            found += self._difference(self.cron, service.get_cron_workflow)
        return found

    def _difference(self, here: WorkflowTemplate | CronWorkflow, get: Callable[..., Any]) -> str:
        from metaflow_adapters.argo.cluster.differences import difference

        return difference(f"{here.kind} {here.name}", self._there(here, get), here.to_dict())

    @staticmethod
    def _there(here: WorkflowTemplate | CronWorkflow, get: Callable[..., Any]) -> ArgoObject | None:
        """Return an object as it is on the server, None if it is not there."""
        from hera.exceptions import NotFound

        with suppress(NotFound):
            found: ArgoObject = json.loads(
                get(here.name, namespace=here.namespace).json(exclude_none=True, by_alias=True)
            )
            return found
        return None
