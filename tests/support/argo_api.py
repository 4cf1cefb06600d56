"""The Kubernetes API over loopback HTTP, for Argo's objects, secrets and pods, with the refusals of the real one.

A real cluster runs the same code in `tests/integration/test_argo_features.py`. What is here enforces what the API
server enforces (Kubernetes API concepts): a replaced object needs the resource version that it has there, a name is
taken once, lists come in pages, and selectors choose by labels.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from .kubernetes_http import error, served

Key = tuple[str, str, str]
"""Kind in plural, namespace, name."""

Right = tuple[str, str, str]
"""API group, resource with its subresource, verb."""

_NAMESPACES = ("flows", "events")
_GROUPS = {
    **dict.fromkeys(("workflowtemplates", "cronworkflows", "workflows", "sensors"), "/apis/argoproj.io/v1alpha1"),
    "jobs": "/apis/batch/v1",
    "jobsets": "/apis/jobset.x-k8s.io/v1alpha2",
}


@dataclass
class ArgoApi:
    """The objects of a cluster.

    :param objects: all of them.
    :param logs: logs by pod and container.
    :param refused: methods and kinds that the caller has no right to.
    :param absent: kinds that the cluster has not, for want of a controller.
    :param rights: what the caller's role allows; None allows everything.
    :param used: what of that the caller has needed.
    :param requests: method and path of all requests but those without an effect (dry runs).
    """

    objects: dict[Key, dict[str, Any]] = field(default_factory=dict)
    logs: dict[tuple[str, str], str] = field(default_factory=dict)
    refused: set[tuple[str, str]] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)
    requests: list[tuple[str, str]] = field(default_factory=list)
    rights: set[Right] | None = None
    used: set[Right] = field(default_factory=set)
    page: int = 2
    versions: int = 0

    def get(self, kind: str, name: str, namespace: str = "flows") -> dict[str, Any] | None:
        return self.objects.get((kind, namespace, name))

    def put(self, kind: str, document: dict[str, Any], namespace: str = "flows") -> dict[str, Any]:
        """Put an object there, as the API server keeps it."""
        self.versions += 1
        made = json.loads(json.dumps(document))
        metadata = made.setdefault("metadata", {})
        metadata.setdefault("name", f"{metadata.get('generateName', '')}{self.versions}")
        metadata["namespace"] = namespace
        metadata["resourceVersion"] = str(self.versions)
        metadata.setdefault("creationTimestamp", f"2026-01-01T00:{self.versions:02}:00Z")
        self.objects[kind, namespace, metadata["name"]] = made
        return made

    def answer(self, method: str, url: str, body: Any) -> tuple[int, Any]:
        """Answer one request."""
        path, query = urlsplit(url).path, {key: value[0] for key, value in parse_qs(urlsplit(url).query).items()}
        if query.get("dryRun") == "All":
            return self._without_effect(method, url, body)
        self.requests.append((method, path))
        group, _, rest = path.partition("/namespaces/")
        namespace, kind, *more = [unquote(part) for part in rest.split("/")]
        if group != _GROUPS.get(kind, "/api/v1") or namespace not in _NAMESPACES or kind in self.absent:
            return error(404, "the server could not find the requested resource")
        right = _right(method, group, kind, more, query)
        self.used.add(right)
        if (method, kind) in self.refused or (self.rights is not None and right not in self.rights):
            return error(403, f'{kind} is forbidden: User "ann" cannot do that in the namespace "{namespace}"')
        if more[1:] == ["log"]:
            return 200, self.logs[more[0], query.get("container", "")]
        if not more:
            return self._create(kind, namespace, body) if method == "POST" else self._list(kind, namespace, query)
        return self._one(method, (kind, namespace, more[0]), body)

    def _without_effect(self, method: str, url: str, body: Any) -> tuple[int, Any]:
        """Answer as if the request had been meant, and keep everything as it is."""
        kept = json.dumps(list(self.objects.items())), self.versions, list(self.requests)
        answer = self.answer(method, url.replace("dryRun=All", ""), body)
        objects, self.versions, self.requests = kept
        # The rights that it takes are those of the request itself.
        self.objects = {tuple(key): one for key, one in json.loads(objects)}
        return answer

    def _create(self, kind: str, namespace: str, body: dict[str, Any]) -> tuple[int, Any]:
        metadata = body["metadata"]
        if metadata.get("namespace", namespace) != namespace:
            return error(400, "the namespace of the provided object does not match the namespace of the request")
        if self.get(kind, metadata.get("name", ""), namespace):
            return error(409, f'{kind} "{metadata["name"]}" already exists')
        return 201, self.put(kind, body, namespace)

    def _list(self, kind: str, namespace: str, query: dict[str, str]) -> tuple[int, Any]:
        wanted = dict(term.split("=") for term in query.get("labelSelector", "").split(",") if term)
        found = [
            one
            for (of, where, _), one in self.objects.items()
            if (of, where) == (kind, namespace) and wanted.items() <= (one["metadata"].get("labels") or {}).items()
        ]
        start = int(query.get("continue", "0"))
        size = min(self.page, int(query.get("limit", len(found) + 1)))
        following = {"continue": str(start + size)} if start + size < len(found) and kind != "pods" else {}
        items = found if kind == "pods" else found[start : start + size]
        return 200, {"kind": "List", "apiVersion": "v1", "metadata": following, "items": items}

    def _one(self, method: str, key: Key, body: Any) -> tuple[int, Any]:
        there = self.objects.get(key)
        if there is None:
            return error(404, f'{key[0]} "{key[2]}" not found')
        if method == "DELETE":
            del self.objects[key]
            return 200, {"kind": "Status", "status": "Success"}
        if method == "PUT":
            version = body["metadata"].get("resourceVersion")
            if version is None and key[0] != "secrets":
                return error(422, "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update")
            if version not in (None, there["metadata"]["resourceVersion"]):
                return error(409, "the object has been modified; please apply your changes to the latest version")
            return 200, self.put(key[0], body, key[1])
        if method == "PATCH":
            _merge(there, body)
        return 200, there


def rights_of(role: dict[str, Any]) -> set[Right]:
    """Return what a role allows."""
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def _right(method: str, group: str, kind: str, more: list[str], query: dict[str, str]) -> Right:
    """Return the right that a request takes, as the API server finds it (Kubernetes' authorization overview)."""
    verb = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}.get(method)
    if method == "GET":
        verb = "get" if more else "list"
    resource = "/".join([kind, *more[1:]])
    return group.removeprefix("/apis/").rpartition("/")[0] if group.startswith("/apis") else "", resource, str(verb)


def _merge(there: dict[str, Any], change: dict[str, Any]) -> None:
    """Merge a patch (RFC 7386)."""
    for name, value in change.items():
        if value is None:
            there.pop(name, None)
        elif isinstance(value, dict):
            _merge(there.setdefault(name, {}), value)
        else:
            there[name] = value


@contextmanager
def argo_api(folder: Path) -> Iterator[tuple[ArgoApi, Path]]:
    """Serve the API; yield it with the file of a client's configuration."""
    api = ArgoApi()
    with served(api, folder) as file:
        yield api, file
