"""Where the links of a task instance lead."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_provider_metaflow.links.metaflow import MetaflowCardsLink, MetaflowRunLink

KEY = SimpleNamespace(dag_id="d", run_id="r/1 2", task_id="s", map_index=-1)


def operator(pathspec: str | None = "F/r/s/t", id_prefix: str = "") -> SimpleNamespace:
    return SimpleNamespace(metaflow_pathspec=pathspec, id_prefix=id_prefix, step="s")


def test_the_metaflow_ui_is_linked_where_one_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("METAFLOW_UI_URL", raising=False)
    assert MetaflowRunLink().get_link(operator(), ti_key=KEY) == ""
    monkeypatch.setenv("METAFLOW_UI_URL", "https://ui.example/")
    assert MetaflowRunLink().get_link(operator(), ti_key=KEY) == "https://ui.example/F/r/s/t"
    monkeypatch.setenv("AIRFLOW__METAFLOW__UI_URL", "https://other.example")
    assert MetaflowRunLink().get_link(operator(), ti_key=KEY) == "https://other.example/F/r/s/t"
    assert MetaflowRunLink().get_link(operator(None), ti_key=KEY) == ""


def test_the_cards_of_a_task_are_linked_with_every_part_quoted() -> None:
    assert MetaflowCardsLink().get_link(operator(), ti_key=KEY) == "metaflow/dags/d/runs/r%2F1%202?task=s"
    # A task that has not run has no page.
    assert MetaflowCardsLink().get_link(operator(None), ti_key=KEY) == ""


def test_the_cards_of_a_mapped_task_in_a_flow_within_a_larger_dag_are_linked_by_its_airflow_id() -> None:
    key = SimpleNamespace(dag_id="d", run_id="r", task_id="group.s", map_index=3)
    found = MetaflowCardsLink().get_link(operator(id_prefix="group."), ti_key=key)
    assert found == "metaflow/dags/d/runs/r?task=group.s&map_index=3"
