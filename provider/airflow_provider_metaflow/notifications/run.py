"""Reports the end of a run to Slack, PagerDuty and incident.io, through Airflow's own notifiers and connections."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import tenacity
from airflow.sdk import BaseNotifier

from metaflow_orchestration.documents.manifest import Notifications
from metaflow_orchestration.exceptions import MissingExtraError
from metaflow_orchestration.graph.identity import RUN_KEY, airflow_run_id, reported_run_id

if TYPE_CHECKING:
    from airflow.sdk import Context

_INCIDENT_IO = "https://api.incident.io"
_SECONDS = 30


class MetaflowRunNotifier(BaseNotifier):
    """A DAG callback that reports a run; texts and payloads are those of Metaflow's Argo deployer.

    :param flow: name of the flow.
    :param on_success: whether it reports a success; else of a failure.
    :param endpoints: the recipients; secrets are in the Airflow connections that are named there.
    :param start: Airflow task id of the start step.
    """

    def __init__(self, *, flow: str, on_success: bool, endpoints: Notifications, start: str = "start") -> None:
        super().__init__()
        self.flow, self.on_success, self.endpoints, self.start = flow, on_success, endpoints, start

    def notify(self, context: Context) -> None:
        """Report to every endpoint; one that cannot be reached keeps no other from its report.

        :param context: Airflow's context of the DAG run.
        """
        dag: Any = context["dag"]
        run = f"{self.flow}/{self._run_id(context)}"
        text = f"Metaflow run {run} {'succeeded' if self.on_success else 'failed'}! See the DAG {dag.dag_id} in Airflow"
        ui = _ui_url()
        links = [{"href": f"{ui}/{run}", "text": "Metaflow UI"}] if ui else []
        text += f" or {links[0]['href']}." if links else "."
        for name, send in self._senders(run, text, links):
            try:
                _retrying()(send, context)
            except Exception as error:  # noqa: PERF203  (three at most)
                # The type only: the message may hold the address, which is a secret of Slack's.
                self.log.error("The report to %s on %s could not be sent: %s", name, run, type(error).__name__)  # noqa: TRY400

    def _run_id(self, context: Context) -> str:
        first = airflow_run_id(context["dag"].dag_id, str(context["run_id"]))
        ti: Any = context.get("ti")
        try:
            # The task instance that Airflow gives with the end of a run, for what concerns the whole run.
            reported = ti.xcom_pull(task_ids=self.start, key=RUN_KEY, map_indexes=-1) if ti is not None else None
        except Exception as error:
            self.log.warning("The XCom %s of %s cannot be read: %s", RUN_KEY, self.start, error)
            reported = None
        return reported_run_id(reported, first)

    def _senders(
        self, run: str, text: str, links: list[dict[str, str]]
    ) -> Iterator[tuple[str, Callable[[Context], None]]]:
        if self.endpoints.slack:
            yield "Slack", lambda context: self._slack(context, text)
        if self.endpoints.pager_duty:
            yield "PagerDuty", lambda context: self._pager_duty(context, run, text, links)
        if self.endpoints.incident_io:
            yield "incident.io", lambda _: self._incident_io(run, text, links)

    def _slack(self, context: Context, text: str) -> None:
        try:
            from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier
        except ImportError:
            raise _missing("slack", self.flow) from None
        # Not by calling it, which would render the text as a template and log the address with an error; and without
        # the retries of Slack's client, which logs the address at each.
        notifier = SlackWebhookNotifier(slack_webhook_conn_id=str(self.endpoints.slack), text=text, retry_handlers=[])
        notifier.notify(context)  # type: ignore[no-untyped-call]

    def _pager_duty(self, context: Context, run: str, text: str, links: list[dict[str, str]]) -> None:
        try:
            from airflow.providers.pagerduty.notifications.pagerduty import PagerdutyNotifier
        except ImportError:
            raise _missing("pagerduty", self.flow) from None
        notifier = PagerdutyNotifier(
            summary=text,
            severity="info" if self.on_success else "critical",
            source=f"airflow/{context['dag'].dag_id}",
            dedup_key=run,
            custom_details={"Flow": self.flow, "Run": run},
            links=links,
            pagerduty_events_conn_id=self.endpoints.pager_duty,
        )
        if self.on_success:
            # A success is a change, not an incident.
            notifier.hook.create_change_event(summary=text, source=notifier.source, links=links)
        else:
            notifier.notify(context)  # type: ignore[no-untyped-call]

    def _incident_io(self, run: str, text: str, links: list[dict[str, str]]) -> None:
        import httpx
        from airflow.sdk import BaseHook

        connection: Any = BaseHook.get_connection(str(self.endpoints.incident_io))
        status = "succeeded" if self.on_success else "failed"
        body = {
            "idempotency_key": run,
            "status": "firing",
            "title": f"Flow {self.flow} has {status}.",
            "description": text,
            "source_url": links[0]["href"] if links else None,
            "metadata": {
                **dict(self.endpoints.incident_io_metadata),
                "run_status": status,
                "flow_name": self.flow,
                "run_id": run.rpartition("/")[2],
            },
        }
        answer = httpx.post(
            f"{connection.host or _INCIDENT_IO}/v2/alert_events/http/{self.endpoints.incident_io_source}",
            json=body,
            headers={"Authorization": f"Bearer {connection.password}"},
            timeout=_SECONDS,
        )
        answer.raise_for_status()


def _retrying() -> tenacity.Retrying:
    return tenacity.Retrying(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_fixed(1), reraise=True)


def _ui_url() -> str:
    from airflow_provider_metaflow import settings

    return settings.ui_url()


def _missing(extra: str, flow: str) -> MissingExtraError:
    return MissingExtraError(
        f"the {extra} provider is not installed.",
        flow=flow,
        hint=f'pip install "airflow-provider-metaflow[{extra}]" where the DAG processor runs.',
    )
