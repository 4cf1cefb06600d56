"""Which executor of Airflow a task gets, as far as that decides what its DAG must say. Imports no Airflow.

Airflow's own reading of ``[core] executor`` (``ExecutorLoader``) asks its database for the teams, which a parse of a
DAG file must not.
"""

from __future__ import annotations

from collections.abc import Iterator

KUBERNETES = "KubernetesExecutor"
"""Name of the executor that gives each task a pod, and of its class."""


def starts_pods(configured: str, chosen: str | None, *, multi_team: bool = False) -> bool:
    """Tell whether the executor of a task gives it a worker pod.

    >>> starts_pods("LocalExecutor,KubernetesExecutor", None)
    False
    >>> starts_pods("LocalExecutor,pods:KubernetesExecutor", "pods")
    True

    Which team a DAG belongs to is not known when its file is parsed. If several teams have executors, it is enough that
    one of them has it; what a DAG says for worker pods means nothing to other executors.

    :param configured: ``[core] executor``.
    :param chosen: the ``executor`` of the task; None means the first of its team.
    :param multi_team: ``[core] multi_team``; without it Airflow ignores the executors of teams.
    """
    for team in _teams(configured, multi_team=multi_team):
        for names in team[:1] if chosen is None else team:
            if KUBERNETES in names and (chosen is None or chosen in names):
                return True
    return False


def _teams(configured: str, *, multi_team: bool) -> Iterator[list[frozenset[str]]]:
    """Yield the executors of each team, those of all teams first: for each, the names that it can be chosen by."""
    for text in configured.split(";"):
        team, _, executors = text.rpartition("=")
        if multi_team or not team:
            yield [_names(one.strip()) for one in executors.split(",")]


def _names(executor: str) -> frozenset[str]:
    """Return the names of ``alias:package.module.Class``, where all but the class may be missing."""
    alias, _, path = executor.rpartition(":")
    return frozenset({alias, path, path.rpartition(".")[2]} - {""})


__all__ = ["KUBERNETES", "starts_pods"]
