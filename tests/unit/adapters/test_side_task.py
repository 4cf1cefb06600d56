"""Telling Slack, PagerDuty and incident.io of the end of a run, from a container."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from tests.support.listener import listener

from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task import side_task

DOCUMENT = {
    "env": {},
    "flow_name": "F",
    "flow_file": "f.py",
    "deployment": "f",
    "alert_source": "source-1",
    "metadata": {"team": "ml"},
    "succeeded": False,
}
FAILURES = [
    {
        "displayName": "train(1)",
        "templateName": "train",
        "message": "main: Error: late",
        "finishedAt": "2026-01-01T00:02Z",
    },
    {"displayName": "fit", "templateName": "fit", "message": "main: Error: no luck", "finishedAt": "2026-01-01T00:01Z"},
]


@pytest.mark.parametrize(
    ("said", "source"), [({}, "argo-workflows/f"), ({"orchestrator": "step-functions"}, "step-functions/f")]
)
def test_all_endpoints_are_told_what_failed_first(
    monkeypatch: pytest.MonkeyPatch, said: dict[str, str], source: str
) -> None:
    with listener() as (url, got):
        for name, value in {
            "METAFLOW_ORCHESTRATOR_RUN": "argo-f-x1",
            "METAFLOW_ORCHESTRATOR_FAILURES": base64.b64encode(json.dumps(FAILURES).encode()).decode(),
            "METAFLOW_NOTIFY_SLACK": f"{url}/hook",
            "METAFLOW_NOTIFY_PAGER_DUTY": "key",
            "METAFLOW_PAGER_DUTY_URL": url,
            "METAFLOW_NOTIFY_INCIDENT_IO": "api-key",
            "METAFLOW_INCIDENT_IO_URL": url,
        }.items():
            monkeypatch.setenv(name, value)
        assert side_task.main({**DOCUMENT, **said}, ".") == 0
    slack, pager_duty, incident_io = got
    text = "Metaflow run F/argo-f-x1 failed! fit: main: Error: no luck"
    assert slack[0::2] == ("/hook", {"text": text})
    assert pager_duty[0] == "/v2/enqueue"
    assert pager_duty[2]["payload"]["source"] == source
    assert (pager_duty[2]["dedup_key"], pager_duty[2]["payload"]["severity"]) == ("F/argo-f-x1", "critical")
    assert incident_io[0] == "/v2/alert_events/http/source-1"
    assert incident_io[1]["authorization"] == "Bearer api-key"
    assert incident_io[2]["metadata"]["team"] == "ml"


def test_an_endpoint_that_refuses_is_told_without_its_address(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with listener(status=403) as (url, _):
        monkeypatch.setenv("METAFLOW_ORCHESTRATOR_RUN", "argo-f-x1")
        monkeypatch.setenv("METAFLOW_NOTIFY_SLACK", f"{url}/secret-hook")
        assert side_task.main(dict(DOCUMENT), ".") == 1
    told = capsys.readouterr().err
    assert "Slack could not be notified: HTTPError" in told
    assert "secret-hook" not in told


@pytest.mark.subprocess
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_script_for_errors_gets_what_failed_first_and_its_exit_status_counts(
    wrapped: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    failures = [{**one, "finishedAt": one["finishedAt"].replace("Z", ":00Z")} for one in FAILURES]
    text = json.dumps(failures)
    # As Argo writes it: JSON inside of a text.
    encoded = base64.b64encode((json.dumps(text) if wrapped else text).encode()).decode()
    monkeypatch.setenv("METAFLOW_ORCHESTRATOR_RUN", "argo-f-x1")
    monkeypatch.setenv("METAFLOW_ORCHESTRATOR_FAILURES", encoded)
    monkeypatch.setenv("METAFLOW_ARGO_WORKFLOW_FAILURES", "")
    script = 'printf "%s" "$METAFLOW_ARGO_ERROR" > error; printf "%s" "$METAFLOW_WORKFLOW_NAME" > name; exit 3'
    document = {"env": {}, "flow_name": "F", "flow_file": "f.py", "error_script": script}
    assert side_task.main(document, str(tmp_path)) == 3
    assert json.loads((tmp_path / "error").read_text()) == failures[1]
    assert (tmp_path / "name").read_text() == "f-x1"
