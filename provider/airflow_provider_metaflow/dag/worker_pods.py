"""What steps ask of their worker pods on the KubernetesExecutor, as Airflow's ``executor_config``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from airflow.sdk import get_parsing_context

from airflow_provider_metaflow._compat import conf
from airflow_provider_metaflow.plan.executors import KUBERNETES, starts_pods
from metaflow_orchestration.exceptions import MissingExtraError

if TYPE_CHECKING:
    from airflow_provider_metaflow.operators.step import MetaflowStepOperator
    from metaflow_orchestration.containers.objects import KubernetesObject
    from metaflow_orchestration.documents.manifest import Manifest

_OVERRIDE = "pod_override"


class WorkerPods(msgspec.Struct, frozen=True, kw_only=True):
    """Gives the steps of a flow the worker pods that they ask for.

    :param executors: ``[core] executor``.
    :param multi_team: ``[core] multi_team``.
    """

    executors: str
    multi_team: bool

    def ask(self, operator: MetaflowStepOperator) -> None:
        """Say in the operator of a step what its worker pod must have, if it gets one.

        What the user has given as ``executor_config`` wins, field by field, as it wins over the pod template.

        :param operator: the operator, with all that the user has decided.
        :raises MissingExtraError: if Kubernetes' client is not installed.
        """
        if not operator.runs_on_worker:
            return
        if not starts_pods(self.executors, operator.executor, multi_team=self.multi_team):
            return
        from metaflow_orchestration.containers.worker_pods import worker_pod

        manifest = operator.manifest
        pod = worker_pod(manifest, manifest.graph.step(operator.step), operator.kubernetes or {})
        if pod is not None:
            operator.executor_config = _with_pod(operator.executor_config or {}, pod, manifest, operator.step)


def configured_worker_pods(dag_id: str) -> WorkerPods | None:
    """Return what gives steps their worker pods, None if nobody would look at it.

    A task of the DAG only executes its operator, where Airflow no longer asks for the ``executor_config``: it does not
    pay for the import of Kubernetes' client.

    :param dag_id: the DAG.
    """
    executors = conf.get("core", "executor", fallback="")
    if KUBERNETES not in executors:
        return None
    executed = get_parsing_context()
    # Processes that a task starts inherit it, e.g. one that serializes other DAGs.
    if executed.task_id is not None and executed.dag_id == dag_id:
        return None
    return WorkerPods(executors=executors, multi_team=conf.getboolean("core", "multi_team", fallback=False))


def _with_pod(given: Mapping[str, Any], pod: KubernetesObject, manifest: Manifest, step: str) -> dict[str, Any]:
    """Return an ``executor_config`` with a pod beneath the one that it has; an override of None means none."""
    if given.get(_OVERRIDE, given) is None:
        return dict(given)
    try:
        from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
    except ImportError as error:
        raise MissingExtraError(
            f"asks for a worker pod of its own on the {KUBERNETES}, which needs a package that is not installed "
            f"({error.name}).",
            flow=manifest.graph.name,
            step=step,
            hint='pip install "airflow-provider-metaflow[airflow-kubernetes]" where DAG files are parsed.',
        ) from None
    own = PodGenerator.deserialize_model_dict(pod)
    return {**given, _OVERRIDE: PodGenerator.reconcile_pods(own, given.get(_OVERRIDE))}


__all__ = ["WorkerPods", "configured_worker_pods"]
