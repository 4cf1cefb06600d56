"""The page of a run: which flow, run, task and values it shows to whom."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, task_group
from sqlalchemy import insert
from tests.unit.plugin.conftest import BEGAN, RUN, Airflow, task

from airflow_provider_metaflow import MetaflowDag, MetaflowTaskGroup
from airflow_provider_metaflow.plugin import app as page
from metaflow_orchestration.graph.identity import airflow_run_id

Write = Callable[[str], Path]


def visible(html: str) -> str:
    """Return the text of a page."""
    body = re.sub(r"(?s)<(script|style).*?</\1>", "", html.partition("<body")[2])
    return " ".join(re.sub(r"<[^>]*>", " ", body.partition(">")[2]).split())


@pytest.fixture
def nightly(airflow: Airflow, manifest_of: Write) -> Airflow:
    """A DAG with two flows and another task, whose run has begun."""
    from airflow.providers.standard.operators.empty import EmptyOperator

    with DAG("d", schedule=None) as dag:
        first = MetaflowTaskGroup(manifest_of("linear"), "first")
        EmptyOperator(task_id="report") << MetaflowTaskGroup(manifest_of("foreach"), "second") << first
    airflow.dag(dag)
    airflow.run()
    for name in ("first.start", "second.start"):
        airflow.task(name)
    return airflow


def test_the_flows_of_a_larger_dag_are_shown_one_at_a_time(nightly: Airflow) -> None:
    html = nightly.get()
    assert f"LinearFlow/{airflow_run_id('d', RUN, 'first.')}" in html
    assert 'href="?flow=second."' in html
    other = nightly.get("?flow=second.")
    assert f"ForeachFlow/{airflow_run_id('d', RUN, 'second.')}" in other
    assert "LinearFlow/" not in other
    assert [one["pathspec"].partition("/")[0] for one in nightly.asked] == ["LinearFlow", "ForeachFlow"]


def test_a_task_of_a_larger_dag_shows_the_run_of_its_own_flow(nightly: Airflow) -> None:
    html = nightly.get("?task=second.start&map_index={MAP_INDEX}")
    assert f"ForeachFlow/{airflow_run_id('d', RUN, 'second.')}" in html
    assert nightly.asked == [{**nightly.asked[0], "step": "start"}]
    assert "tasks" not in nightly.asked[0]


def test_where_there_is_no_flow_the_page_says_nothing(nightly: Airflow) -> None:
    assert visible(nightly.get("?task=report")) == ""
    nightly.dag(DAG("d", schedule=None))
    assert visible(nightly.get()) == ""
    assert visible(nightly.get("?task=anything")) == ""
    assert nightly.client.get(f"/dags/d/runs/{RUN}/cards/start/t/abc").status_code == 404
    assert nightly.asked == []


def test_who_may_not_read_xcoms_sees_no_card(nightly: Airflow) -> None:
    nightly.allowed = frozenset(("errors",))
    assert nightly.client.get(f"/dags/d/runs/{RUN}/cards/start/t/abc").status_code == 403


def test_each_run_of_a_flow_in_a_mapped_task_group_is_shown(airflow: Airflow, manifest_of: Write) -> None:
    path = manifest_of("linear")
    with DAG("d", schedule=None) as dag:

        @task_group
        def each(region: str) -> None:
            MetaflowTaskGroup(path, "flow", tooltip=region and "")

        each.expand(region=["eu", "us"])
    airflow.dag(dag)
    airflow.run()
    for index in (0, 1):
        airflow.task("each.flow.start", index=index)
        airflow.xcom("each.flow.start", "metaflow_run", airflow_run_id("d", RUN, "each.flow.", index), index)
    html = airflow.get()
    assert airflow_run_id("d", RUN, "each.flow.", 0) in html
    assert "map_index=1" in html
    assert airflow_run_id("d", RUN, "each.flow.", 1) in airflow.get("?flow=each.flow.&map_index=1")
    assert airflow_run_id("d", RUN, "each.flow.", 1) in airflow.get("?task=each.flow.end&map_index=1")


@pytest.fixture
def mapped(airflow: Airflow, manifest_of: Write) -> Airflow:
    """A run of a flow with a foreach of three splits, of which the last is running."""
    airflow.dag(MetaflowDag(manifest_of("foreach"), "d"))
    airflow.run()
    airflow.task("start")
    contexts = [{"items": [[number]], "parents": [-1], "label": str(number)} for number in range(3)]
    airflow.xcom("start", "return_value", contexts)
    for index, state in enumerate(("success", "failed", "running")):
        airflow.task("upper", state, index, at=1 + index, took=None if state == "running" else 2, tries=index + 1)
    outcome = {
        "run_id": airflow_run_id("d", RUN), "code": "0" * 40, "index": 0,
        "tasks": [{"path": [0], "task": "t-upper-0-g1", "next": ["join"]}],
    }  # fmt: skip
    airflow.xcom("upper", "metaflow", outcome, 0)
    return airflow


@pytest.mark.parametrize(
    ("index", "tasks"), [("0", ["t-upper-0-g1"]), ("1", ["t-upper-1", "t-1"]), ("2", ["t-upper-2", "t-2"]), ("7", None)]
)
def test_a_mapped_task_instance_shows_its_own_metaflow_tasks(
    mapped: Airflow, index: str, tasks: list[str] | None
) -> None:
    mapped.get(f"?task=upper&map_index={index}")
    assert mapped.asked[0]["step"] == "upper"
    assert mapped.asked[0].get("tasks") == tasks


def test_an_xcom_that_was_edited_leads_to_no_task_of_another_kind(mapped: Airflow) -> None:
    for number, value in enumerate(('"text"', "[1", {"run_id": 1}, ["x"])):
        mapped.xcom("upper", "metaflow", value, 10 + number)
        mapped.get(f"?task=upper&map_index={10 + number}")
        assert "tasks" not in mapped.asked[-1]


def test_the_timeline_shows_state_duration_and_tries_of_each_step(mapped: Airflow) -> None:
    html = mapped.get()
    rows = [visible(f"<body>{row}") for row in re.findall(r"(?s)<tr>.*?</tr>", html)]
    assert rows[0] == "Step State Time Duration"
    assert rows[1] == "start successful 1.0 s"
    assert re.fullmatch(r"upper failed 1 of 3 tasks done, 1 failed, try 3 .*", rows[2])
    assert rows[3].startswith("gather not started")
    assert 'href="/dags/d/runs/manual__1/tasks/upper"' in html
    one = mapped.get("?task=upper&map_index=1")
    assert "upper failed try 2 2.0 s" in visible(one)
    assert 'href="/dags/d/runs/manual__1/tasks/upper/mapped/1"' in one


def test_the_timeline_is_shown_though_metaflow_gives_no_answer(
    mapped: Airflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_metaflow.hooks.metaflow import MetaflowHook
    from metaflow_orchestration.exceptions import MetaflowQueryError

    def fail(*_: Any, **__: Any) -> None:
        raise MetaflowQueryError("no")

    monkeypatch.setattr(MetaflowHook, "ask", fail)
    answer = mapped.client.get(f"/dags/d/runs/{RUN}")
    assert answer.status_code == 502
    assert "upper failed" in visible(answer.text)
    assert "Metaflow gave no answer" in answer.text


@pytest.mark.parametrize(
    ("state", "is_live"), [("running", True), ("queued", True), ("failed", False), ("success", False)]
)
def test_only_a_run_that_goes_on_is_asked_for_again(
    airflow: Airflow, manifest_of: Write, state: str, is_live: bool
) -> None:
    airflow.dag(MetaflowDag(manifest_of("linear"), "d"))
    airflow.run(state)
    before = airflow.get()
    assert "The run has not begun yet." in before
    airflow.task("start")
    for html in (before, airflow.get()):
        assert ('data-live="yes"' in html) == is_live


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("running", "is not registered with Metaflow yet."),
        ("failed", "failed before it was registered with Metaflow; the log of its first task says why."),
    ],
)
def test_a_run_that_metaflow_does_not_know_says_whether_it_still_may(
    airflow: Airflow, manifest_of: Write, state: str, said: str
) -> None:
    airflow.dag(MetaflowDag(manifest_of("linear"), "d"))
    airflow.run(state)
    airflow.task("start", "failed")
    airflow.answers = {"exists": False}
    html = airflow.get()
    assert f"LinearFlow/{airflow_run_id('d', RUN)} {said}" in html
    assert "start failed" in visible(html)
    assert 'href="/dags/d/runs/manual__1/tasks/start"' in html


@pytest.fixture
def failed(airflow: Airflow, manifest_of: Write) -> Airflow:
    """A run whose start task has failed."""
    airflow.dag(MetaflowDag(manifest_of("linear"), "d"))
    airflow.run("failed")
    airflow.task("start", "failed", tries=2)
    artifacts = [
        {"name": "rows", "type": "list", "size": 20, "preview": "[1, 2, 3]", "hidden": False},
        {"name": "api_token", "type": "str", "size": 20, "preview": None, "hidden": True},
    ]
    error = {"type": "mine.Error", "message": "<script>alert(1)</script> it broke"}
    pathspec = f"LinearFlow/{airflow_run_id('d', RUN)}/start/t-start"
    one = task(pathspec, successful=False, attempt=1, error=error, artifacts=artifacts)
    airflow.answers = {"steps": [{"step": "start", "tasks": [one]}]}
    return airflow


def test_a_failed_run_shows_the_error_and_small_values_as_text(failed: Airflow) -> None:
    html = failed.get()
    text = visible(html)
    assert "mine.Error" in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; it broke" in html
    assert "<script>alert" not in html
    assert "attempt 2" in text
    assert "rows list 20 bytes [1, 2, 3]" in text
    assert "api_token str 20 bytes hidden: it looks like a secret" in text


def test_who_may_read_no_logs_and_no_xcoms_sees_no_errors_and_no_values(failed: Airflow) -> None:
    failed.allowed = frozenset()
    text = visible(failed.get())
    assert "it broke" not in text
    assert "The task failed; its log says why." in text
    assert "[1, 2, 3]" not in text
    assert "rows list 20 bytes" in text


def test_a_task_that_was_killed_is_said_to_have_left_no_error(failed: Airflow) -> None:
    failed.answers["steps"][0]["tasks"][0]["error"] = None
    assert "The task left no error, as one that was killed" in failed.get()


def test_permissions_for_values_and_errors_are_those_of_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastapi import HTTPException

    seen = []

    def requires(method: str, entity: Any) -> Any:
        def check(request: Any, user: Any) -> None:
            seen.append((method, entity.value, request, user))
            if entity.value == "TASK_LOGS":
                raise HTTPException(403)

        return check

    monkeypatch.setattr(page, "requires_access_dag", requires)
    request: Any = "request"
    assert page.allowed_parts(request, "ann") == {"values"}  # type: ignore[arg-type]
    assert seen == [("GET", "XCOM", "request", "ann"), ("GET", "TASK_LOGS", "request", "ann")]


def test_each_parameter_has_its_value_and_where_it_comes_from(
    airflow: Airflow, recorded: Callable[[str], Any], manifest_of: Write
) -> None:
    from airflow.models.asset import AssetEvent, AssetModel, association_table

    airflow.dag(MetaflowDag(manifest_of("decorated/triggered"), "d", parameters={"model": "deep"}))
    airflow.run(conf={"exact": True, "model": "deep"})
    airflow.task("start")
    names = {"day": "'2026-01-01'", "exact": "True", "model": "'deep'"}
    airflow.answers = {"parameters": names}
    assert "exact True given for this run model &#39;deep&#39; DAG file" in visible(airflow.get())
    name = "x-metaflow-event://data.ready"
    airflow.session.execute(insert(AssetModel.__table__).values(id=1, name=name, uri=name, group="metaflow", extra={}))
    airflow.session.execute(
        insert(AssetEvent.__table__).values(id=1, asset_id=1, extra={}, source_map_index=-1, timestamp=BEGAN)
    )
    airflow.session.execute(insert(association_table).values(dag_run_id=1, event_id=1))
    assert "day &#39;2026-01-01&#39; event data.ready exact True event data.ready" in visible(airflow.get())


def test_pathspec_and_code_can_be_copied_and_the_metaflow_ui_is_linked(
    failed: Airflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    pathspec = f"LinearFlow/{airflow_run_id('d', RUN)}"
    monkeypatch.setenv("METAFLOW_UI_URL", "https://ui.example")
    html = failed.get()
    assert f'data-copy="{pathspec}" aria-label="Copy the pathspec"' in html
    assert f"run = Run(&#34;{pathspec}&#34;)" in html
    assert f'href="https://ui.example/{pathspec}"' in html
    monkeypatch.setenv("METAFLOW_UI_URL", "javascript:alert(1)//")
    assert "javascript:" not in failed.get().replace("text/javascript", "")


def test_no_script_but_that_of_the_page_may_run_in_it(failed: Airflow) -> None:
    import base64
    import hashlib

    answer = failed.client.get(f"/dags/d/runs/{RUN}")
    (script,) = re.findall(r"(?s)<script>(.*?)</script>", answer.text)
    mark = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = answer.headers["Content-Security-Policy"]
    assert f"script-src 'sha256-{mark}';" in policy
    assert "default-src 'none'" in policy
    # No handler in an attribute, which the policy would refuse.
    assert re.findall(r"<[^>]*\son[a-z]+=", answer.text.replace(script, "")) == []


def test_everything_that_can_be_used_has_a_name_for_screen_readers(mapped: Airflow) -> None:
    card = {"type": "default", "hash": "abc"}
    mapped.answers = {
        "parameters": {"p": "1"},
        "steps": [{"step": "start", "tasks": [task("ForeachFlow/r/start/t-start", cards=[card])]}],
    }
    html = mapped.get()
    assert '<html lang="en">' in html
    for button in re.findall(r"<button[^>]*>", html):
        assert "aria-label=" in button
    for frame in re.findall(r"<iframe[^>]*>", html):
        assert "title=" in frame
    for section in re.findall(r"<section[^>]*>", html):
        (title,) = re.findall(r'aria-labelledby="([^"]*)"', section)
        assert f'id="{title}"' in html
    assert html.count("<h1>") == 1
    assert all('scope="' in one for one in re.findall(r"<th[ >][^>]*>?", html))


def test_the_plugin_has_an_icon_for_light_and_dark_that_needs_no_request() -> None:
    from airflow_provider_metaflow.plugin.plugin import MetaflowPlugin

    views = MetaflowPlugin.external_views
    assert [one["destination"] for one in views] == ["dag_run", "task_instance"]
    assert all(
        one[name].startswith("data:image/svg+xml;base64,") for one in views for name in ("icon", "icon_dark_mode")
    )
    assert "map_index={MAP_INDEX}" in views[1]["href"]
