from __future__ import annotations

import pytest

from airflow_provider_metaflow import settings


@pytest.mark.parametrize(
    ("configured", "in_a_pod", "expected"),
    [(None, False, True), (None, True, False), ("True", True, True), ("False", False, False)],
)
def test_a_process_is_kept_where_another_task_may_come_or_the_user_says_so(
    configured: str | None, in_a_pod: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW__METAFLOW__WARM_PROCESS", raising=False)
    if configured is not None:
        monkeypatch.setenv("AIRFLOW__METAFLOW__WARM_PROCESS", configured)
    if in_a_pod:
        monkeypatch.setenv("AIRFLOW_IS_K8S_EXECUTOR_POD", "True")
    assert settings.warm_process() is expected
