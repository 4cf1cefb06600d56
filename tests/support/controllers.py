"""Controllers of others in the cluster: built by `tests/kubernetes/controllers.sh`, installed as their makers say."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import yaml

from tests.harness import builds

from .kubernetes import OWN, Cluster, script, script_output

Document = dict[str, Any]


def load(name: str, version: str = "") -> tuple[str, list[Document]]:
    """Build a controller and load its image; return the image's name, and the objects that a cluster needs of it."""
    if OWN:
        return _released(name, version)
    builds.wait("cluster" if name == "argo-workflows" else "controllers")
    built = Path(script("controllers.sh", "build", name, *([version] if version else [])))
    script("cluster.sh", "load", str(built / "image.tar"))
    image = f"local/{name}:{built.name.removeprefix(f'{name}-')}"
    return image, _documents((built / "objects.yaml").read_text())


def _released(name: str, version: str) -> tuple[str, list[Document]]:
    """Return what Argo's maintainers release, for clusters that pull images; `TEST_ARGO_IMAGE` has both programs."""
    assert name == "argo-workflows", f"{name} is tested in the built cluster only"
    version = version or script("controllers.sh", "version", name)
    objects = script_output("controllers.sh", "objects", name, version)
    image = os.environ.get("TEST_ARGO_IMAGE") or f"quay.io/argoproj/workflow-controller:v{version}"
    return image, _documents(objects)


def _documents(text: str) -> list[Document]:
    """Return the documents of a YAML file; Argo's are 11 MB, which take the loader that is not in C two minutes."""
    loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    return [one for one in yaml.load_all(text, Loader=loader) if one]


def create(cluster: Cluster, objects: list[Document], *, namespace: str | None = None) -> None:
    """Create objects, or change them to these, as their maker's `kubectl apply` would."""
    where = ["-n", namespace] if namespace else []
    text = "\n---\n".join(json.dumps(one) for one in objects)
    # Some of them are too large for the note that `apply` takes without it.
    cluster.kubectl(*where, "apply", "--server-side", "--force-conflicts", "-f", "-", text=text)


def ours(objects: list[Document], image: str) -> list[Document]:
    """Return the objects with the image of the tests in each deployment, and no claim on the small node's CPU."""
    for one in objects:
        if one["kind"] == "Deployment":
            pod = one["spec"]["template"]["spec"]
            # The makers' images say so themselves.
            pod.setdefault("securityContext", {}).setdefault("runAsUser", 65532)
            for container in pod["containers"]:
                container.update(image=image, imagePullPolicy="Never", resources={})
    return objects


def jobset(cluster: Cluster) -> None:
    """Install JobSet and wait until it answers for its objects."""
    image, objects = load("jobset")
    create(cluster, ours(objects, image))
    cluster.kubectl(
        "-n", "jobset-system", "rollout", "status", "deployment/jobset-controller-manager", "--timeout=180s"
    )
