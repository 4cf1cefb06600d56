"""What a flow is on Argo Workflows: live Hera objects, as YAML for GitOps or applied to a server."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from airflow_provider_metaflow.flow.manifest import Manifest

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
        """Return how the template on an Argo server differs, as a unified diff; empty if it does not.

        :param service: Hera's service.
        """
        name, namespace = str(self.template.name), self.template.namespace
        there = service.get_workflow_template(name, namespace=namespace)
        old = yaml.safe_load(there.json(exclude_none=True, by_alias=True))
        new = self.template.to_dict()
        lines = difflib.unified_diff(
            to_yaml({"spec": old["spec"]}).splitlines(keepends=True),
            to_yaml({"spec": new["spec"]}).splitlines(keepends=True),
            f"{name} on the server",
            f"{name} here",
        )
        return "".join(lines)


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks, which people can read."""


def _text(dumper: yaml.SafeDumper, data: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)


_Dumper.add_representer(str, _text)


def to_yaml(document: dict[str, Any]) -> str:
    """Return plain data as YAML in its own order.

    :param document: JSON types.
    """
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=10**6, allow_unicode=True)
    return text
