"""What of this package's requirements is installed, by the metadata of the distribution: no extra is forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, version
from typing import Any

DISTRIBUTION = "airflow-provider-metaflow"

USES = {
    "airflow": "Airflow itself: the image, `airflow test`",
    "airflow-kubernetes": "steps in pods, in the Airflow image",
    "airflow-amazon": "steps in AWS Batch jobs and @airflow_s3_key_sensor, in the Airflow image",
    "airflow-slack": "--notify-slack-…, in the Airflow image",
    "airflow-pagerduty": "--notify-pager-duty-…, in the Airflow image",
    "airflow-openlineage": "lineage, in the Airflow image",
    "kubernetes": "`airflow create` of flows with @kubernetes",
    "argo": "`flow.py argo …`",
    "step-functions": "`flow.py sfn …`",
    "s3": "`airflow create` to s3://…",
    "gcs": "`airflow create` to gs://…",
}
"""What each extra is for."""


def installed_version(name: str) -> str | None:
    """Return the version of a distribution, None if it is not installed.

    :param name: its name.
    """
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def extras() -> list[str]:
    """Return the names of this package's extras."""
    return sorted(distribution(DISTRIBUTION).metadata.get_all("Provides-Extra") or [])


def unmet(extra: str | None = None) -> list[tuple[str, str | None]]:
    """Return the requirements that are not met, each with the version that is installed, None for none.

    :param extra: those of an extra; default: those of the package itself.
    """
    return list(_unmet(DISTRIBUTION, extra, set()))


def _unmet(name: str, extra: str | None, seen: set[tuple[str, str]]) -> Iterator[tuple[str, str | None]]:
    for requirement in _requirements(name, extra):
        found = installed_version(requirement.name)
        if found is None or not requirement.specifier.contains(found, prereleases=True):
            yield f"{requirement.name}{requirement.specifier}", found
            continue
        for further in sorted(requirement.extras):
            if (requirement.name, further) not in seen:
                seen.add((requirement.name, further))
                yield from _unmet(requirement.name, further, seen)


def _requirements(name: str, extra: str | None) -> Iterator[Any]:
    """Yield what a distribution requires for an extra, and not without it; or without any."""
    # Metaflow contains a copy; the library itself may be missing on a laptop.
    from metaflow._vendor.packaging.requirements import Requirement

    for text in distribution(name).requires or []:
        requirement = Requirement(text)
        plain = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if plain if extra is None else not plain and requirement.marker.evaluate({"extra": extra}):
            yield requirement
