"""A Kubernetes API over loopback HTTP that fails on demand: pods, jobs and services, and no containers.

A real cluster runs the same operators in `tests/integration`; what a test needs here is what a cluster will not do when
it is asked: end a pod unseen, lose it, answer with an error, find the pods of a worker that died.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .kubernetes_http import error, served

CONTAINER = "main"

Pod = dict[str, Any]


def ended(code: int, message: str = "", status: dict[str, Any] | None = None) -> Callable[[Pod], None]:
    """Let a pod end with an exit code and a last message; `status` is of the pod itself."""

    def end(pod: Pod) -> None:
        name = pod["spec"]["containers"][0]["name"]
        state = {"terminated": {"exitCode": code, "message": message, "reason": "Completed" if code == 0 else "Error"}}
        pod["status"] = {
            "phase": "Failed" if code else "Succeeded",
            "containerStatuses": [_container(name, state)],
            **(status or {}),
        }

    return end


def running(pod: Pod) -> None:
    """Let a pod run."""
    name = pod["spec"]["containers"][0]["name"]
    pod["status"] = {
        "phase": "Running",
        "containerStatuses": [_container(name, {"running": {"startedAt": "2026-01-01T00:00:00Z"}})],
    }


def _container(name: str, state: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "image": "i", "imageID": "i", "ready": False, "restartCount": 0, "state": state}


class KubernetesApi:
    """The API's objects, and what happens to a pod once it is made.

    :ivar start: makes the status of a new pod; by default it has succeeded with no message.
    :ivar refuse: per method and part of a path, HTTP statuses to answer with, one a request.
    """

    def __init__(self) -> None:
        self.pods: dict[str, Pod] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.services: dict[str, dict[str, Any]] = {}
        self.made: list[Pod] = []
        self.deleted: list[str] = []
        self.events: dict[str, dict[str, Any]] = {}
        self.refuse: dict[tuple[str, str], list[int]] = {}
        self.requests: list[tuple[str, str]] = []
        self.start: Callable[[Pod], None] = ended(0)
        self.log = ""

    def add(self, pod: Pod, status: Callable[[Pod], None]) -> Pod:
        """Put a pod there that nobody has seen being made."""
        pod.setdefault("metadata", {}).setdefault("namespace", "default")
        pod["metadata"].setdefault("uid", f"uid-{len(self.pods)}")
        status(pod)
        self.pods[pod["metadata"]["name"]] = pod
        return pod

    def answer(self, method: str, url: str, body: Any) -> tuple[int, Any]:
        """Answer one request."""
        path, query = urlsplit(url).path, parse_qs(urlsplit(url).query)
        self.requests.append((method, path))
        for (of, part), statuses in self.refuse.items():
            if of == method and part in path and statuses:
                return error(statuses.pop(0), "the API is out of order")
        kind, name = ([*path.partition("/namespaces/")[2].split("/"), "", ""])[1:3]
        if path.endswith("/log"):
            return 200, self.log
        held = {"pods": self.pods, "jobs": self.jobs, "services": self.services, "events": self.events}[kind]
        if method == "POST":
            return self._create(kind, held, body)
        if not name:
            return 200, {"kind": "List", "apiVersion": "v1", "metadata": {}, "items": _chosen(held, query)}
        if name not in held:
            return error(404, f'{kind} "{name}" not found')
        if method == "DELETE":
            return 200, self._delete(kind, held, name)
        if method == "PATCH":
            held[name]["metadata"].setdefault("labels", {}).update(body["metadata"].get("labels") or {})
        return 200, held[name]

    def _delete(self, kind: str, held: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
        self.deleted.append(f"{kind}/{name}")
        if kind == "jobs":
            self.pods = {one: pod for one, pod in self.pods.items() if _labels(pod).get(_JOB) != name}
        return held.pop(name)

    def _create(self, kind: str, held: dict[str, Any], body: dict[str, Any]) -> tuple[int, Any]:
        name = body["metadata"]["name"]
        if name in held:
            return error(409, f'{kind} "{name}" already exists')
        body["metadata"]["uid"] = f"uid-of-{name}"
        if kind == "pods":
            self.made.append(body)
            self.add(body, self.start)
        else:
            held[name] = body
        if kind == "jobs":
            body["metadata"].setdefault("namespace", "default")
            self._run(body)
        return 201, body

    def _run(self, job: dict[str, Any]) -> None:
        """Make the pods of an Indexed job."""
        name, template = job["metadata"]["name"], job["spec"]["template"]
        for index in range(job["spec"]["completions"]):
            labels = {**template["metadata"].get("labels", {}), _JOB: name, _INDEX: str(index)}
            owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": "job", "controller": True}
            metadata = {
                **template["metadata"], "name": f"{name}-{index}", "labels": labels, "ownerReferences": [owner],
            }  # fmt: skip
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
            self.made.append(pod)
            self.add(pod, self.start)
        phases = {pod["status"]["phase"] for pod in self.pods.values() if _labels(pod).get(_JOB) == name}
        condition = "Failed" if "Failed" in phases else "Complete"
        now = "2026-01-01T00:00:00Z"
        job["status"] = {"conditions": [{"type": condition, "status": "True", "lastTransitionTime": now}]}


_JOB = "batch.kubernetes.io/job-name"
_INDEX = "batch.kubernetes.io/job-completion-index"


def _labels(thing: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = thing["metadata"].get("labels") or {}
    return found


def _chosen(held: dict[str, dict[str, Any]], query: dict[str, list[str]]) -> list[dict[str, Any]]:
    terms = [term for text in query.get("labelSelector", []) for term in text.split(",") if term]
    return [one for one in held.values() if all(_matches(_labels(one), term) for term in terms)]


def _matches(labels: dict[str, str], term: str) -> bool:
    if term.startswith("!"):
        return term[1:] not in labels
    for sign, wanted in (("!=", False), ("==", True), ("=", True)):
        if sign in term:
            name, _, value = term.partition(sign)
            return (labels.get(name.strip()) == value.strip()) is wanted
    return term in labels


@contextmanager
def kubernetes_api(folder: Path) -> Iterator[tuple[KubernetesApi, Path]]:
    """Serve the API; yield it with the file of a client's configuration."""
    api = KubernetesApi()
    with served(api, folder, namespace="default") as file:
        yield api, file
