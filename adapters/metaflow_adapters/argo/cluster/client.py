"""Argo's objects by the Kubernetes API, for which no Argo server is needed. Uses Metaflow's own way to a cluster."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

from metaflow_adapters.argo.objects.metadata import WORKFLOW_LABEL
from metaflow_orchestration.exceptions import MetaflowProviderError

_GROUP, _VERSION = "argoproj.io", "v1alpha1"
_JOBSETS = ("jobset.x-k8s.io", "v1alpha2")
_PAGE = 100
_NO_DRY_RUN = "does not support dry run"
"""What the API server says where an admission webhook refuses to be asked without effect."""

TEMPLATES, CRONS, WORKFLOWS, SENSORS = "workflowtemplates", "cronworkflows", "workflows", "sensors"
_PLURALS = {"WorkflowTemplate": TEMPLATES, "CronWorkflow": CRONS, "Workflow": WORKFLOWS, "Sensor": SENSORS}


class ArgoClusterError(MetaflowProviderError, RuntimeError):
    """The Kubernetes API cannot be reached, or refuses."""

    fix = "Check the kubeconfig, the namespace and your rights there."


class ArgoCluster:
    """Argo's objects in one namespace.

    :param namespace: the namespace.
    """

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    @cached_property
    def _client(self) -> Any:
        from metaflow.plugins.kubernetes.kubernetes_client import KubernetesClient

        try:
            return KubernetesClient().get()
        except Exception as error:  # the client's own, of several kinds
            raise _unreachable(error) from None

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
                f"Kubernetes refuses to {method} {plural} in the namespace {namespace!r}: {_message(error)}.",
                hint="Check METAFLOW_KUBERNETES_NAMESPACE, your rights there, and that Argo is installed.",
            ) from None
        except OSError as error:
            raise _unreachable(error) from None
        except Exception as error:
            if type(error).__module__.startswith("urllib3"):
                raise _unreachable(error) from None
            raise

    def find(self, plural: str, name: str, namespace: str | None = None) -> dict[str, Any] | None:
        """Return an object, None if there is none of that name.

        :param plural: its kind, e.g. :data:`TEMPLATES`.
        :param name: its name.
        :param namespace: its namespace, where that is another one.
        """
        found: dict[str, Any] | None = self._call("get", plural, name, namespace=namespace, missing_is_none=True)
        return found

    def every(self, plural: str, selector: str = "") -> Iterator[dict[str, Any]]:
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

    def create(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object and return it as it is in the cluster.

        :param document: the object, with ``kind``.
        """
        made: dict[str, Any] = self._call("create", _PLURALS[document["kind"]], dict(document))
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
                    f"the gangs of the workflow {workflow!r} cannot be deleted: {_message(error)}.",
                    hint="It needs the rights to list and delete jobs (group batch) and jobsets (jobset.x-k8s.io).",
                ) from None

    def pods(self, selector: str) -> list[Any]:
        """Return the pods that a selector finds.

        :param selector: label selector.
        """
        api = self._client.CoreV1Api()
        found: list[Any] = api.list_namespaced_pod(self.namespace, label_selector=selector).items
        return found

    def log(self, pod: str, container: str = "main") -> str:
        """Return the log of a pod's container.

        :param pod: name of the pod.
        :param container: name of the container.
        """
        api = self._client.CoreV1Api()
        # As bytes: the client would read a log that is JSON, and show others as the literal of bytes (client 36).
        answer = api.read_namespaced_pod_log(pod, self.namespace, container=container, _preload_content=False)
        text: str = answer.data.decode(errors="replace")
        return text

    def save_secret(self, name: str, values: Mapping[str, str], *, dry_run: bool = False) -> None:
        """Create a secret, or replace the one of its name.

        :param name: its name.
        :param values: texts by key.
        :param dry_run: see :meth:`apply`.
        """
        more = {"dry_run": "All"} if dry_run else {}
        client = self._client
        api = client.CoreV1Api()
        body = {
            "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "metaflow"}},
            "stringData": dict(values),
        }
        try:
            try:
                api.create_namespaced_secret(self.namespace, body, **more)
            except client.rest.ApiException as error:
                if error.status != 409:
                    raise
                api.replace_namespaced_secret(name, self.namespace, body, **more)
        except client.rest.ApiException as error:
            raise ArgoClusterError(f"the secret {name!r} cannot be made: {_message(error)}.") from None

    def delete_secret(self, name: str) -> None:
        """Delete a secret, if there is one.

        :param name: its name.
        """
        client = self._client
        try:
            client.CoreV1Api().delete_namespaced_secret(name, self.namespace)
        except client.rest.ApiException as error:
            if error.status not in (403, 404):
                raise ArgoClusterError(f"the secret {name!r} cannot be deleted: {_message(error)}.") from None


def _message(error: Any) -> str:
    try:
        return str(json.loads(error.body)["message"]).rstrip(".")
    except (TypeError, ValueError, KeyError):
        return str(error.reason)


def _unreachable(error: Exception) -> ArgoClusterError:
    return ArgoClusterError(
        f"the Kubernetes cluster cannot be reached: {error}.", hint="Check KUBECONFIG, or your network."
    )
