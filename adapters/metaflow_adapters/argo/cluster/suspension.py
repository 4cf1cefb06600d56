"""Suspended schedules: one that a user has suspended stays so, one that was removed from the flow is suspended."""

from __future__ import annotations

from metaflow_orchestration.containers.objects import KubernetesObject

from .objects import ArgoObject

REMOVED = "metaflow/schedule_removed"
"""Annotation of a cron workflow whose flow has no schedule any more: whether somebody had suspended it before."""

_BY_USER, _BY_DEPLOYMENT = "suspended", "running"


def is_kept_suspended(cron: ArgoObject | None) -> bool:
    """Return whether a cron workflow stays suspended when its flow is deployed again, with a schedule.

    One that was suspended because the flow had lost its schedule goes on.

    :param cron: the cron workflow in the cluster, None if there is none.
    """
    if cron is None or not cron["spec"].get("suspend"):
        return False
    removed = (cron["metadata"].get("annotations") or {}).get(REMOVED)
    if removed is not None:
        return bool(removed == _BY_USER)
    # Metaflow's own deployer leaves one without a schedule behind, suspended.
    return bool(cron["spec"].get("schedules") or cron["spec"].get("schedule"))


def suspending(cron: ArgoObject | None) -> KubernetesObject:
    """Return what to change at a cron workflow whose flow has no schedule any more; nothing if there is nothing to.

    It is kept, as Metaflow's own deployer does: deleting it would delete the runs that it has started.

    :param cron: the cron workflow in the cluster, None if there is none.
    """
    if cron is None or REMOVED in (cron["metadata"].get("annotations") or {}):
        return {}
    before = _BY_USER if is_kept_suspended(cron) else _BY_DEPLOYMENT
    return {"metadata": {"annotations": {REMOVED: before}}, "spec": {"suspend": True}}
