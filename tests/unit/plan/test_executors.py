from __future__ import annotations

import pytest

from airflow_provider_metaflow.plan.executors import starts_pods

FULL = "airflow.providers.cncf.kubernetes.executors.kubernetes_executor.KubernetesExecutor"


@pytest.mark.parametrize(
    ("configured", "expected"),
    [
        ("KubernetesExecutor", True),
        ("KubernetesExecutor,LocalExecutor", True),
        (FULL, True),
        ("pods:KubernetesExecutor, LocalExecutor", True),
        (f"pods:{FULL}", True),
        ("company.executors.KubernetesExecutor", True),
        ("LocalExecutor,KubernetesExecutor", False),
        ("CeleryExecutor", False),
        ("", False),
    ],
)
def test_a_task_gets_the_first_executor(configured: str, expected: bool) -> None:
    assert starts_pods(configured, None) is expected


@pytest.mark.parametrize("chosen", ["pods", "KubernetesExecutor", FULL])
def test_an_executor_is_chosen_by_alias_class_or_path(chosen: str) -> None:
    assert starts_pods(f"LocalExecutor,pods:{FULL}", chosen)


@pytest.mark.parametrize("chosen", ["LocalExecutor", "local", "unknown"])
def test_another_executor_starts_no_pods(chosen: str) -> None:
    assert not starts_pods("KubernetesExecutor,local:LocalExecutor", chosen)


def test_a_team_counts_once_airflow_has_teams() -> None:
    configured = "LocalExecutor;ml=pods:KubernetesExecutor,CeleryExecutor;web=CeleryExecutor"
    for chosen in (None, "pods"):
        assert starts_pods(configured, chosen, multi_team=True)
        assert not starts_pods(configured, chosen)


def test_executors_of_all_teams_may_stand_after_a_sign() -> None:
    assert starts_pods("=KubernetesExecutor;ml=CeleryExecutor", None)
