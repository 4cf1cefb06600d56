"""Pods and secrets of a namespace by the Kubernetes API, to which Metaflow's own configuration leads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from metaflow_orchestration.exceptions import MetaflowProviderError


class ArgoClusterError(MetaflowProviderError, RuntimeError):
    """The Kubernetes API cannot be reached, or refuses."""

    fix = "Check the kubeconfig, the namespace and your rights there."


class Namespace:
    """Pods and secrets of one namespace.

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
            raise unreachable(error) from None

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
        :param dry_run: whether the API server only says whether it would.
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
            raise ArgoClusterError(f"the secret {name!r} cannot be made: {message_of(error)}.") from None

    def delete_secret(self, name: str) -> None:
        """Delete a secret, if there is one.

        :param name: its name.
        """
        client = self._client
        try:
            client.CoreV1Api().delete_namespaced_secret(name, self.namespace)
        except client.rest.ApiException as error:
            if error.status not in (403, 404):
                raise ArgoClusterError(f"the secret {name!r} cannot be deleted: {message_of(error)}.") from None


def message_of(error: Any) -> str:
    """Return what the API server says of a refusal.

    :param error: the client's ``ApiException``.
    """
    try:
        return str(json.loads(error.body)["message"]).rstrip(".")
    except (TypeError, ValueError, KeyError):
        return str(error.reason)


def unreachable(error: Exception) -> ArgoClusterError:
    """Return the error of a cluster that does not answer.

    :param error: what the client raised.
    """
    return ArgoClusterError(
        f"the Kubernetes cluster cannot be reached: {error}.", hint="Check KUBECONFIG, or your network."
    )
