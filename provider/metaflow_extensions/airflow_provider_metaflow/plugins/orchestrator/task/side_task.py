"""What a container does beside the tasks of a run: a function of ``@exit_hook``, telling somebody, or a heartbeat."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from task_place import RUN_VARIABLE  # type: ignore[import-not-found]

if TYPE_CHECKING:
    from .task_documents import SideDocument

Body = Mapping[str, object]
"""What is posted to an endpoint, in its own format."""

ArgoNode = Mapping[str, Any]
"""A failed node of a workflow, as Argo describes it in ``workflow.failures``."""

SECRETS_PREFIX = "METAFLOW_NOTIFY_"
"""Environment variables with the secrets of endpoints; they come from a Kubernetes secret."""

FAILURES_VARIABLE = "METAFLOW_ORCHESTRATOR_FAILURES"
"""Environment variable with what Argo knows of failed nodes (``workflow.failures``), as base64."""

_SCRIPT = "metaflow.plugins.exit_hook.exit_hook_script"
_SECONDS = 30
_PAUSES = (1, 5, None)


def main(document: SideDocument, root: str) -> int:
    """Do what the document says; return the exit status.

    :param document: what ``adapters`` have written.
    :param root: folder that the code package was unpacked in.
    """
    os.environ.update(document["env"])
    run = "%s/%s" % (document["flow_name"], os.environ[RUN_VARIABLE])
    if "heartbeat" in document:
        _beat(run)
    if "function" in document:
        command = [sys.executable, "-m", _SCRIPT, document["flow_file"], document["function"], run]
        return subprocess.call(command, cwd=root)
    if "error_script" in document:
        return _run_error_script(document["error_script"], root)
    failed = [name for name, request in _requests(document, run) if not _send(name, request)]
    return 1 if failed else 0


def _run_error_script(script: str, root: str) -> int:
    """Run a user's script with the failure that came first, as Metaflow's own deployer does; return its exit status."""
    from metaflow.plugins.argo.capture_error import determine_first_error

    os.environ["METAFLOW_ARGO_WORKFLOW_FAILURES"] = json.dumps(json.dumps(_failures()))
    first = determine_first_error() or {"message": ""}
    print(first["message"])
    environment = {
        **os.environ,
        "METAFLOW_ARGO_ERROR": json.dumps(first, indent=2),
        "METAFLOW_ARGO_WORKFLOWS_CAPTURE_ERROR_SCRIPT": script,
        "METAFLOW_WORKFLOW_NAME": os.environ[RUN_VARIABLE].replace("argo-", "", 1),
        "METAFLOW_WORKFLOW_NAMESPACE": os.environ.get("METAFLOW_KUBERNETES_NAMESPACE", ""),
    }
    command = ["bash", "-c", 'eval "$METAFLOW_ARGO_WORKFLOWS_CAPTURE_ERROR_SCRIPT"']
    return subprocess.call(command, cwd=root, env=environment)


def _beat(run: str) -> NoReturn:
    """Tell Metaflow's service that a run is alive, until the orchestrator ends this process.

    As Metaflow's own sidecar does it, which also waits for a run that is not registered yet.
    """
    from metaflow.metadata_provider.heartbeat import HB_URL_KEY, MetadataHeartBeat
    from metaflow.metaflow_config import SERVICE_URL
    from metaflow.sidecar import Message, MessageTypes

    flow, run_id = run.split("/")
    url = "%s/flows/%s/runs/%s/heartbeat" % (SERVICE_URL.rstrip("/"), flow, run_id)
    sidecar = MetadataHeartBeat()
    sidecar.process_message(Message(MessageTypes.BEST_EFFORT, {HB_URL_KEY: url}))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        time.sleep(3600)


def _requests(document: SideDocument, run: str) -> Iterator[tuple[str, urllib.request.Request]]:
    succeeded = document["succeeded"]
    status = "succeeded" if succeeded else "failed"
    ui = os.environ.get("METAFLOW_UI_URL", "").rstrip("/")
    links = [{"href": "%s/%s" % (ui, run), "text": "Metaflow UI"}] if ui else []
    text = "Metaflow run %s %s!" % (run, status) + (" See %s." % links[0]["href"] if links else "")
    text += _first_failure()
    secret = {key: os.environ.get(SECRETS_PREFIX + key) for key in ("SLACK", "PAGER_DUTY", "INCIDENT_IO")}
    if secret["SLACK"]:
        yield "Slack", _post(secret["SLACK"], {"text": text})
    if secret["PAGER_DUTY"]:
        yield "PagerDuty", _pager_duty(secret["PAGER_DUTY"], document, run, text, links)
    if secret["INCIDENT_IO"]:
        alert = {
            "idempotency_key": run,
            "status": "firing",
            "title": "Flow %s has %s." % (document["flow_name"], status),
            "description": text,
            "source_url": links[0]["href"] if links else None,
            "metadata": {
                **document.get("metadata", {}),
                "run_status": status,
                "flow_name": document["flow_name"],
                "run_id": run.rpartition("/")[2],
            },
        }
        base = os.environ.get("METAFLOW_INCIDENT_IO_URL", "https://api.incident.io")
        url = "%s/v2/alert_events/http/%s" % (base, document["alert_source"])
        yield "incident.io", _post(url, alert, Authorization="Bearer %s" % secret["INCIDENT_IO"])


def _first_failure() -> str:
    """Return what failed first, as the orchestrator reports it."""
    known = [one for one in _failures() if one.get("message")]
    first = min(known, key=lambda one: str(one.get("finishedAt")), default=None)
    return " %s: %s" % (first.get("templateName") or first.get("displayName"), first["message"]) if first else ""


def _failures() -> list[ArgoNode]:
    """Return the failed nodes, which Argo writes as JSON inside of a text of JSON."""
    found: Any = json.loads(base64.b64decode(os.environ.get(FAILURES_VARIABLE) or "") or "[]")
    return list(json.loads(found, strict=False) if isinstance(found, str) else found)


def _pager_duty(
    key: str, document: SideDocument, run: str, text: str, links: list[dict[str, str]]
) -> urllib.request.Request:
    base = os.environ.get("METAFLOW_PAGER_DUTY_URL", "https://events.pagerduty.com")
    payload = {
        "summary": text,
        "source": "%s/%s" % (document.get("orchestrator", "argo-workflows"), document["deployment"]),
        "custom_details": {"Flow": document["flow_name"], "Run": run},
    }
    if document["succeeded"]:
        # A success is a change, not an incident.
        return _post(base + "/v2/change/enqueue", {"routing_key": key, "payload": payload, "links": links})
    payload["severity"] = "critical"
    event = {"routing_key": key, "event_action": "trigger", "dedup_key": run, "payload": payload, "links": links}
    return _post(base + "/v2/enqueue", event)


def _post(url: str, body: Body, **headers: str) -> urllib.request.Request:
    data = json.dumps(body).encode()
    return urllib.request.Request(url, data=data, headers={"Content-Type": "application/json", **headers})  # noqa: S310


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Lets a redirect be an error: the message and its key are for the configured address, and for no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _send(name: str, request: urllib.request.Request) -> bool:
    opener = urllib.request.build_opener(_NoRedirect)
    for pause in _PAUSES:
        try:
            with opener.open(request, timeout=_SECONDS):
                print("%s was notified." % name)
                return True
        except (urllib.error.URLError, OSError, ValueError) as error:  # noqa: PERF203  (three at most)
            # The type only: the message may hold the address, which is a secret of Slack's.
            print("%s could not be notified: %s" % (name, type(error).__name__), file=sys.stderr)
            if pause is None or (isinstance(error, urllib.error.HTTPError) and error.code < 500):
                return False
            time.sleep(pause)
    return False
