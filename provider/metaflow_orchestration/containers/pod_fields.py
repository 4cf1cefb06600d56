"""The parts of a pod that attributes of ``@kubernetes`` decide, whoever's pod it is: plain data in the API's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .objects import KubernetesObject


def temporary_folder(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Return the variable by which Metaflow puts temporary files into memory, if the step wants that.

    :param attributes: attributes of ``@kubernetes``.
    """
    wanted = _tmpfs_mib(attributes) and attributes.get("tmpfs_tempdir")
    return {"METAFLOW_TEMPDIR": attributes["tmpfs_path"]} if wanted else {}


def nodes_of(attributes: Mapping[str, Any]) -> KubernetesObject:
    """Return the fields of a pod's spec that say which nodes may run it.

    :param attributes: attributes of ``@kubernetes``.
    """
    return {
        "nodeSelector": {str(k): str(v) for k, v in (attributes.get("node_selector") or {}).items()},
        "tolerations": [camel_keys(one) for one in attributes.get("tolerations") or []],
    }


def pull_secrets_of(attributes: Mapping[str, Any]) -> list[KubernetesObject]:
    """Return the secrets that an image is pulled with.

    :param attributes: attributes of ``@kubernetes``.
    """
    return [{"name": name} for name in names_of(attributes.get("image_pull_secrets"))]


def resources_of(attributes: Mapping[str, Any]) -> KubernetesObject:
    """Return the requests and limits of a container.

    >>> resources_of({"cpu": 2, "memory": 100, "gpu": 1, "gpu_vendor": "nvidia"})
    {'requests': {'cpu': '2', 'memory': '100M'}, 'limits': {'nvidia.com/gpu': '1'}}

    :param attributes: attributes of ``@kubernetes``; what is not among them is not asked for.
    """
    basic = trimmed(
        {
            "cpu": _with_unit(attributes.get("cpu"), ""),
            "memory": _with_unit(attributes.get("memory"), "M"),
            "ephemeral-storage": _with_unit(attributes.get("disk"), "M"),
        }
    )
    guaranteed = str(attributes.get("qos") or "").lower() == "guaranteed"
    extended = texts(attributes.get("extended_resources"))
    limits = {**(basic if guaranteed else {}), **extended}
    if attributes.get("gpu") is not None:
        limits[f"{attributes['gpu_vendor'].lower()}.com/gpu"] = str(int(float(attributes["gpu"])))
    return trimmed({"requests": {**basic, **extended}, "limits": limits})


def _with_unit(number: Any, unit: str) -> str | None:
    return None if number is None else f"{number}{unit}"


def volumes_of(attributes: Mapping[str, Any]) -> tuple[list[KubernetesObject], list[KubernetesObject]]:
    """Return the volumes of a pod, and where its container mounts them.

    :param attributes: attributes of ``@kubernetes``.
    """
    volumes: list[KubernetesObject] = []
    mounts: list[KubernetesObject] = []
    memory = (
        ("tmpfs-ephemeral-volume", attributes.get("tmpfs_path"), _tmpfs_mib(attributes)),
        ("dhsm", "/dev/shm", attributes.get("shared_memory")),  # noqa: S108  (the mount point of shared memory)
    )
    for name, path, mib in memory:
        if mib:
            volumes.append({"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": f"{int(mib)}Mi"}})
            mounts.append({"name": name, "mountPath": path})
    for claim, path in (attributes.get("persistent_volume_claims") or {}).items():
        volumes.append({"name": claim, "persistentVolumeClaim": {"claimName": claim}})
        mounts.append({"name": claim, "mountPath": path})
    return volumes, mounts


def _tmpfs_mib(attributes: Mapping[str, Any]) -> int | None:
    size = attributes.get("tmpfs_size")
    if size:
        return int(size)
    return int(float(attributes["memory"])) // 2 if attributes.get("use_tmpfs") else None


def camel_keys(given: Mapping[str, Any]) -> KubernetesObject:
    """Turn the keys of Kubernetes' Python client, which Metaflow takes, into those of its API.

    :param given: fields by key.
    """

    def camel(key: str) -> str:
        head, *rest = key.split("_")
        return head + "".join(part.title() for part in rest)

    return {camel(key): value for key, value in given.items()}


def names_of(given: Any) -> list[str]:
    """Return names that were given as a list or as a text with commas.

    :param given: the names; None for none.
    """
    return [name for name in (given.split(",") if isinstance(given, str) else given or []) if name]


def texts(given: Mapping[str, Any] | None) -> dict[str, str]:
    """Return labels, annotations or quantities as texts.

    :param given: values by name; None for none.
    """
    return {str(key): "" if value is None else str(value) for key, value in (given or {}).items()}


def trimmed(given: Mapping[str, Any]) -> KubernetesObject:
    """Return the fields that are not empty.

    :param given: fields by name.
    """
    return {key: value for key, value in given.items() if value not in (None, [], {})}
