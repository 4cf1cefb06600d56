"""A deployed flow: who may do what to it, and the verbs on its runs."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from airflow_provider_metaflow.deploy.record import DeploymentRecord, record_of
from airflow_provider_metaflow.formats import ParamValues
from airflow_provider_metaflow.plan.events import mapped_values
from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.identity import RESUME_KEY, airflow_run_id

from . import dags, runs
from .client import AirflowClient
from .owners import Caller, check_owner
from .runs import FINISHED, DagRun, PlannedRun

__all__ = [
    "Caller",
    "DeployedDag",
    "check_idle",
    "check_owner",
    "open_deployment",
    "record_of",
    "wait_for_deployment",
]


class DeployedDag:
    """A flow that is deployed to an Airflow.

    :param client: the Airflow.
    :param dag: its DAG.
    :param record: what the deployment says about itself.
    """

    def __init__(self, client: AirflowClient, dag: dags.DagInfo, record: DeploymentRecord) -> None:
        self.client, self.dag, self.record = client, dag, record

    @property
    def name(self) -> str:
        """Name of the deployment: the DAG id."""
        return self.dag.dag_id

    @property
    def start_step(self) -> str:
        """Airflow task id of the start step."""
        return self.record.steps[0] if self.record.steps else "start"

    def authorize(self, caller: Caller) -> None:
        """Check that somebody may change the deployment or its runs.

        :param caller: who asks.
        :raises InvalidOptionError: if they neither deployed it nor have its production token.
        """
        check_owner(self.record, self.name, caller)

    def ready(self, *, unpause: bool = False) -> None:
        """Check that a run would start at once.

        :param unpause: unpause the DAG if it is paused.
        :raises DagNotReadyError: if it is paused.
        """
        if self.dag.is_paused and unpause:
            dags.set_paused(self.client, self.name, paused=False)
        elif self.dag.is_paused:
            raise dags.DagNotReadyError(
                f"the DAG {self.name} is paused, so that a run would wait.",
                flow=self.record.flow,
                hint="Give --unpause, or unpause it in Airflow.",
            )

    def plan_run(self) -> PlannedRun:
        """Return the ids of a new run."""
        dag_run_id = f"metaflow__{uuid.uuid4()}"
        return PlannedRun(dag_run_id=dag_run_id, run_id=airflow_run_id(self.name, dag_run_id))

    def start(
        self,
        planned: PlannedRun,
        conf: Mapping[str, Any],
        *,
        logical_date: str | None = None,
        note: str | None = None,
    ) -> DagRun:
        """Start a planned run.

        :param planned: its ids.
        :param conf: values by parameter name.
        :param logical_date: ISO form.
        :param note: shown beside the run.
        :raises AirflowApiError: if Airflow refuses it.
        """
        return runs.trigger(self.client, self.name, planned.dag_run_id, conf, logical_date=logical_date, note=note)

    def find(self, run: str) -> DagRun:
        """Return the run that a user names; see :func:`~.runs.find_run`.

        :param run: Metaflow's run id, ``Flow/run``, or Airflow's run id.
        """
        return runs.find_run(self.client, self.name, self.record.flow, run, self.start_step)

    def terminate(self, run: DagRun) -> None:
        """End a run.

        :param run: the run.
        :raises InvalidOptionError: if it has ended already.
        """
        if run.state in FINISHED:
            raise InvalidOptionError(f"the run {run.run_id} has already ended as {run.status}.", flow=self.record.flow)
        runs.end_run(self.client, run)

    def hold(self, run: DagRun, *, paused: bool) -> int:
        """Pause or unpause the DAG of a run; return how many other active runs that concerns.

        :param run: the run.
        :param paused: whether to pause.
        :raises InvalidOptionError: if the run has ended.
        """
        if run.state in FINISHED:
            raise InvalidOptionError(f"the run {run.run_id} has already ended as {run.status}.", flow=self.record.flow)
        dags.set_paused(self.client, self.name, paused=paused)
        active = runs.list_runs(self.client, self.name, ("queued", "running"))
        return sum(one.dag_run_id != run.dag_run_id for one in active)

    def resume_in_place(self, run: DagRun, step: str | None = None) -> int:
        """Let tasks of a run run again; return how many.

        :param run: the run.
        :param step: step that runs again with all after it; None: what failed, and what waited for that.
        :raises InvalidOptionError: see :meth:`check_resumable`.
        """
        self.check_resumable(run, step)
        return runs.clear(self.client, run, step)

    def check_resumable(self, run: DagRun, step: str | None = None) -> None:
        """Check that a run can be resumed in place.

        :param run: the run.
        :param step: step that is to run again with all after it, if one is named.
        :raises InvalidOptionError: if there is no such step, the run did not fail, or with a step, has not ended.
        """
        self._check_step(step)
        if step is not None:
            self._check_ended(run)
        elif run.state != "failed":
            raise InvalidOptionError(
                f"the run {run.run_id} is {run.status}; only a failed run can be resumed.", flow=self.record.flow
            )

    def resume_conf(
        self,
        origin: str,
        step: str | None,
        given: Mapping[str, Any],
        *,
        stored: Callable[[str], Mapping[str, Any] | None] = lambda _: None,
    ) -> ParamValues:
        """Return the ``conf`` of a new run that reuses finished tasks of another one.

        :param origin: the other run.
        :param step: step that runs again with all after it; None: the first that has not finished.
        :param given: parameters that shall differ from the other run's.
        :param stored: returns the required parameters of a run that this DAG has not made, by its Metaflow run id;
            None if there is no such run.
        :raises InvalidOptionError: if there is no such run or step, or the start step cannot be reused.
        """
        self._check_step(step)
        try:
            run = self.find(origin)
        except InvalidOptionError:
            run_id = self._foreign_id(origin)
            values = stored(run_id) if run_id is not None else None
            if values is None:
                raise
            return {**values, **given, RESUME_KEY: {"origin": run_id, "step": step, "given": sorted(given)}}
        self._check_ended(run)
        conf = {**self._event_values(run), **run.conf, **given}
        # A run that was itself resumed has finished tasks of its own for all that it reused.
        # All that is not given is the origin's as it is stored: its conf may be older than what it went on with.
        conf[RESUME_KEY] = {"origin": run.run_id, "step": step, "given": sorted(given)}
        return conf

    def _check_step(self, step: str | None) -> None:
        if step is not None and step not in self.record.steps:
            raise InvalidOptionError(
                f"has no step {step!r} to run again.",
                flow=self.record.flow,
                hint=f"Steps are: {', '.join(self.record.steps)}.",
            )

    def _check_ended(self, run: DagRun) -> None:
        if run.state not in FINISHED:
            raise InvalidOptionError(
                f"the run {run.run_id} is still running.",
                flow=self.record.flow,
                hint="Wait for its end, or terminate it.",
            )

    def _foreign_id(self, origin: str) -> str | None:
        """Return the Metaflow run id of a run that this DAG has not made, None if it is of another flow."""
        flow, _, run_id = origin.rpartition("/")
        return run_id if flow in ("", self.record.flow) else None

    def _event_values(self, run: DagRun) -> ParamValues:
        """Return the parameters' values from the events that a run was started by."""
        if not self.record.triggers:
            return {}
        return mapped_values(self.record.flow, self.record.triggers, runs.consumed_events(self.client, run))

    def url(self, run: PlannedRun | DagRun) -> str:
        """Return the address of a run in Airflow's web interface.

        :param run: the run.
        """
        return f"{self.client.endpoint.url}/dags/{quote(self.name, safe='')}/runs/{quote(run.dag_run_id, safe='')}"


def open_deployment(client: AirflowClient, name: str, flow: str | None = None) -> DeployedDag:
    """Return the deployment of that name.

    :param client: the Airflow.
    :param name: the DAG id.
    :param flow: flow that it must be of.
    :raises DagNotReadyError: if there is none.
    :raises InvalidOptionError: if it is of another flow.
    """
    dag = dags.get_dag(client, name)
    if dag is None:
        raise dags.DagNotReadyError(
            f"Airflow at {client.endpoint.url} has no DAG {name}.",
            flow=flow,
            hint="Deploy it with `airflow create`; if that was done, wait until Airflow has parsed it.",
        )
    return _deployed(client, dag, flow)


def wait_for_deployment(
    client: AirflowClient,
    name: str,
    flow: str | None,
    *,
    digest: str | None,
    timeout: float,
    report: Callable[[str], None] | None = None,
) -> DeployedDag:
    """Wait until Airflow has parsed a deployment; see :func:`~.dags.wait_for_dag`.

    :param client: the Airflow.
    :param name: the DAG id.
    :param flow: flow that it must be of; None for any.
    :param digest: digest of the manifest that was published last, if known.
    :param timeout: seconds.
    :param report: called once if there is something to wait for.
    :raises DagNotReadyError: if it was deleted, has an import error, or does not appear in time.
    """
    if digest is None:
        found = dags.get_dag(client, name)
        if found is not None and found.is_stale:
            # Nobody knows of a DAG file that Airflow has still to parse.
            error = dags.import_error_of(client, name)
            raise dags.cannot_import(name, error) if error else dags.deleted(name)
    return _deployed(client, dags.wait_for_dag(client, name, digest=digest, timeout=timeout, report=report), flow)


def check_idle(client: AirflowClient, name: str, flow: str) -> None:
    """Check that no run of a deployment is running.

    :param client: the Airflow.
    :param name: the DAG id.
    :param flow: its flow.
    :raises InvalidOptionError: if one is.
    """
    if dags.get_dag(client, name) is None:
        return
    active = list(runs.list_runs(client, name, ("queued", "running")))
    if active:
        raise InvalidOptionError(
            f"{len(active)} runs of {name} are running, e.g. {active[0].run_id}.",
            flow=flow,
            hint="Wait for their end, or end them with `airflow terminate`.",
        )


def _deployed(client: AirflowClient, dag: dags.DagInfo, flow: str | None) -> DeployedDag:
    if dag.record is None:
        raise InvalidOptionError(f"the DAG {dag.dag_id} is not a Metaflow flow that this package has deployed.")
    if flow is not None and dag.record.flow != flow:
        raise InvalidOptionError(
            f"the DAG {dag.dag_id} runs the flow {dag.record.flow}.",
            flow=flow,
            hint="Name the right deployment with `airflow --name`.",
        )
    return DeployedDag(client, dag, dag.record)
