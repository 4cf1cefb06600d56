"""Argo's objects by the Kubernetes API, for which no Argo server is needed. Uses Metaflow's own way to a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from metaflow_adapters.argo.objects.metadata import WORKFLOW_LABEL

from .namespace import ArgoClusterError, Namespace, message_of, unreachable
from .objects import ArgoObject

_GROUP, _VERSION = "argoproj.io", "v1alpha1"
_JOBSETS = ("jobset.x-k8s.io", "v1alpha2")
_PAGE = 100
_NO_DRY_RUN = "does not support dry run"
"""What the API server says where an admission webhook refuses to be asked without effect."""

TEMPLATES, CRONS, WORKFLOWS, SENSORS = "workflowtemplates", "cronworkflows", "workflows", "sensors"
_PLURALS = {"WorkflowTemplate": TEMPLATES, "CronWorkflow": CRONS, "Workflow": WORKFLOWS, "Sensor": SENSORS}


class ArgoCluster(Namespace):
    """Argo's objects in one namespace.

    :param namespace: the namespace.
    """

    def _call(
        self,
        method: str,
        plural: str,
        *arguments: Any,
        namespace: str | None = None,
        missing_is_none: bool = False,
        **more: Any,
    ) -> Any:
        client, namespace = self._client, namespace or self.namespace
        try:
            api = client.CustomObjectsApi()
            return getattr(api, f"{method}_namespaced_custom_object")(
                _GROUP, _VERSION, namespace, plural, *arguments, **more
            )
        except client.rest.ApiException as error:
            if error.status == 404 and missing_is_none:
                return None
            raise ArgoClusterError(
                f"Kubernetes refuses to {method} {plural} in the namespace {namespace!r}: {message_of(error)}.",
                hint="Check METAFLOW_KUBERNETES_NAMESPACE, your rights there, and that Argo is installed.",
            ) from None
        except OSError as error:
            raise unreachable(error) from None
        except Exception as error:
            if type(error).__module__.startswith("urllib3"):
                raise unreachable(error) from None
            raise

    def find(self, plural: str, name: str, namespace: str | None = None) -> ArgoObject | None:
        """Return an object, None if there is none of that name.

        :param plural: its kind, e.g. :data:`TEMPLATES`.
        :param name: its name.
        :param namespace: its namespace, where that is another one.
        """
        found: ArgoObject | None = self._call("get", plural, name, namespace=namespace, missing_is_none=True)
        return found

    def every(self, plural: str, selector: str = "") -> Iterator[ArgoObject]:
        """Yield all objects of a kind.

        :param plural: the kind.
        :param selector: label selector.
        """
        following = None
        while True:
            more: dict[str, Any] = {"_continue": following} if following else {}
            page = self._call("list", plural, label_selector=selector, limit=_PAGE, **more)
            yield from page["items"]
            following = page["metadata"].get("continue")
            if not following:
                return

    def apply(self, document: Mapping[str, Any], *, dry_run: bool = False) -> None:
        """Create an object, or replace the one of its name.

        :param document: the object, with ``kind``.
        :param dry_run: whether the API server only says whether it would.
        """
        plural, name = _PLURALS[document["kind"]], document["metadata"]["name"]
        namespace = document["metadata"].get("namespace") or self.namespace
        body = {**document, "metadata": {**document["metadata"], "namespace": namespace}}
        there = self.find(plural, name, namespace)
        if there is None:
            self._change("create", plural, body, namespace=namespace, dry_run=dry_run)
            return
        body["metadata"]["resourceVersion"] = there["metadata"]["resourceVersion"]
        self._change("replace", plural, name, body, namespace=namespace, dry_run=dry_run)

    def _change(self, method: str, plural: str, *arguments: Any, dry_run: bool, **more: Any) -> Any:
        if not dry_run:
            return self._call(method, plural, *arguments, **more)
        try:
            return self._call(method, plural, *arguments, dry_run="All", **more)
        except ArgoClusterError as error:
            # That webhook will be asked when the object is really changed.
            if _NO_DRY_RUN not in str(error):
                raise

    def create(self, document: Mapping[str, Any]) -> ArgoObject:
        """Create an object and return it as it is in the cluster.

        :param document: the object, with ``kind``.
        """
        made: ArgoObject = self._call("create", _PLURALS[document["kind"]], dict(document))
        return made

    def patch(self, plural: str, name: str, change: Mapping[str, Any], *, dry_run: bool = False) -> None:
        """Change fields of an object.

        :param plural: its kind.
        :param name: its name.
        :param change: a merge patch.
        :param dry_run: see :meth:`apply`.
        """
        self._change("patch", plural, name, dict(change), dry_run=dry_run)

    def delete(self, plural: str, name: str, namespace: str | None = None, *, dry_run: bool = False) -> bool:
        """Delete an object, and report whether there was one.

        :param plural: its kind.
        :param name: its name.
        :param namespace: its namespace, where that is another one.
        :param dry_run: see :meth:`apply`.
        """
        answer = self._change("delete", plural, name, namespace=namespace, missing_is_none=True, dry_run=dry_run)
        return answer is not None

    def delete_gangs(self, workflow: str, kinds: Iterable[str]) -> None:
        """Delete the Jobs and JobSets that a workflow has made for its gangs, with their pods.

        :param workflow: name of the workflow.
        :param kinds: which of ``Job`` and ``JobSet``.
        """
        client, selector = self._client, f"{WORKFLOW_LABEL}={workflow}"
        options = {"propagation_policy": "Background"}
        try:
            if "Job" in kinds:
                batch = client.BatchV1Api()
                for job in batch.list_namespaced_job(self.namespace, label_selector=selector).items:
                    batch.delete_namespaced_job(job.metadata.name, self.namespace, **options)
            if "JobSet" in kinds:
                api, where = client.CustomObjectsApi(), (*_JOBSETS, self.namespace, "jobsets")
                for jobset in api.list_namespaced_custom_object(*where, label_selector=selector)["items"]:
                    api.delete_namespaced_custom_object(*where, jobset["metadata"]["name"], **options)
        except client.rest.ApiException as error:
            if error.status != 404:
                raise ArgoClusterError(
                    f"the gangs of the workflow {workflow!r} cannot be deleted: {message_of(error)}.",
                    hint="It needs the rights to list and delete jobs (group batch) and jobsets (jobset.x-k8s.io).",
                ) from None
