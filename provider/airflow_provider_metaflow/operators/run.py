"""The operator that starts a run of a deployed flow and waits for it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from airflow.sdk import BaseOperator

from airflow_provider_metaflow._compat import conf
from airflow_provider_metaflow.execution.kept_run import earlier_run, is_of_use, keep_run, returned_pathspec
from airflow_provider_metaflow.links.metaflow import PATHSPEC_KEY, MetaflowRunLink

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_metaflow.reading.documents import StatusQuestion, TriggerQuestion

_FINISHED = ("success", "failed")


class MetaflowRunOperator(BaseOperator):
    """Start a run of a deployed flow, on this Airflow or by any deployer of Metaflow, and wait for its end.

    Returns the run's pathspec. Pushes ``metaflow_pathspec`` and the link to the Metaflow UI before it waits.

    ```python
    from airflow_provider_metaflow import MetaflowRunOperator

    train = MetaflowRunOperator(task_id="train", deployment="training", parameters={"day": "{{ ds }}"}, deferrable=True)
    ```

    New in version 0.1.0.

    :param deployment: name of the deployment: the DAG id on Airflow; templated.
    :param parameters: values by parameter name; templated.
    :param impl: Metaflow's deployer that the flow was deployed by, e.g. ``argo-workflows``, or ``airflow`` for
        another Airflow (``METAFLOW_AIRFLOW_URL``). None is this Airflow, which needs no log-in.
    :param flow: name of the flow; default: the last part of the deployment's name.
    :param wait_for_completion: whether to wait for the end of the run, and fail if it fails.
    :param deferrable: whether to wait in the triggerer, which holds no worker.
    :param poll_interval: seconds between two looks.
    :param metaflow_conn_id: connection of :class:`~airflow_provider_metaflow.hooks.metaflow.MetaflowHook`.
    """

    template_fields: Sequence[str] = ("deployment", "parameters")
    template_fields_renderers = {"parameters": "json"}
    operator_extra_links = (MetaflowRunLink(),)
    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        deployment: str,
        parameters: Mapping[str, Any] | None = None,
        impl: str | None = None,
        flow: str | None = None,
        wait_for_completion: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = 30.0,
        metaflow_conn_id: str = "metaflow_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.deployment = deployment
        self.parameters = parameters
        self.impl = impl
        self.flow = flow
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.metaflow_conn_id = metaflow_conn_id
        self.metaflow_pathspec: str | None = None
        self._dag_run_id: str | None = None

    def execute(self, context: Context) -> str:
        """Start the run, and wait for it.

        :param context: Airflow's task context.
        """
        return self._here(context) if self.impl is None else self._elsewhere(context)

    def execute_complete(self, context: Context, event: Any, pathspec: str | None = None) -> str:
        """Go on after the waiting in the triggerer.

        :param context: Airflow's task context.
        :param event: what the trigger has seen.
        :param pathspec: the run; kept by Airflow during the deferral, not by an XCom, which users may edit.
        """
        self.metaflow_pathspec = pathspec
        if isinstance(event, Mapping):
            return self._judge(event)
        (run_id,) = event[1]["run_ids"]
        self._name_flow(context["ti"], run_id)
        return self._judge_state(event[1].get(run_id))

    def on_kill(self) -> None:
        """End the run."""
        if self._dag_run_id is not None:
            from airflow_provider_metaflow.hooks.cancel import cancel_dag_run

            cancel_dag_run(self.deployment, self._dag_run_id)
        elif self.impl is not None and self.metaflow_pathspec is not None:
            self._hook().ask(**self._question("terminate"))

    def _here(self, context: Context) -> str:
        from metaflow_orchestration.graph.identity import airflow_run_id

        ti: Any = context["ti"]
        dag_run_id = str(earlier_run(self, context).get("dag_run_id"))
        if is_of_use(ti, self.deployment, dag_run_id):
            self.log.info("The run of an earlier try of this task is waited for.")
        else:
            # Made from the try, so that a request that is sent again cannot start a second run.
            dag_run_id = f"metaflow__{uuid.uuid5(uuid.UUID(str(ti.id)), str(ti.try_number))}"
            keep_run(self, context, dag_run_id=dag_run_id)
            self._start(dag_run_id)
        self._dag_run_id = dag_run_id
        flow = self.flow or self.deployment.rpartition(".")[2]
        self._announce(ti, f"{flow}/{airflow_run_id(self.deployment, dag_run_id)}")
        if not self.wait_for_completion:
            return str(self.metaflow_pathspec)
        if self.deferrable:
            from airflow_provider_metaflow.triggers.metaflow import MetaflowDagRunTrigger

            trigger = MetaflowDagRunTrigger(
                dag_id=self.deployment,
                states=list(_FINISHED),  # type: ignore[arg-type]
                run_ids=[dag_run_id],
                poll_interval=self.poll_interval,
            )
            self._defer(trigger)
        while (state := _text(ti.get_dagrun_state(self.deployment, dag_run_id))) not in _FINISHED:
            time.sleep(self.poll_interval)
        self._name_flow(ti, dag_run_id)
        return self._judge_state(state)

    def _name_flow(self, ti: Any, dag_run_id: str) -> None:
        """Correct the pathspec of a run whose deployment is not named after its flow."""
        if self.flow is None:
            pathspec = returned_pathspec(ti, self.deployment, dag_run_id, str(self.metaflow_pathspec))
            if pathspec not in (None, self.metaflow_pathspec):
                self._announce(ti, str(pathspec))

    def _start(self, dag_run_id: str) -> None:
        """Ask Airflow for the run, as ``TriggerDagRunOperator`` does: with the rights of the task, without a log-in."""
        from airflow.sdk.exceptions import AirflowRuntimeError
        from airflow.sdk.execution_time.comms import ErrorResponse, TriggerDagRun

        from airflow_provider_metaflow import _compat
        from metaflow_orchestration.exceptions import InvalidOptionError

        request = TriggerDagRun(dag_id=self.deployment, run_id=dag_run_id, conf=dict(self.parameters or {}))
        try:
            answer: Any = _compat.SUPERVISOR_COMMS.send(request)
        except AirflowRuntimeError as error:
            answer = error.error
        # It exists already where the answer to an earlier sending was lost.
        if isinstance(answer, ErrorResponse) and answer.error.name != "DAGRUN_ALREADY_EXISTS":
            raise InvalidOptionError(
                f"Airflow could not start a run of {self.deployment} ({_detail(answer)}).",
                flow=self.flow,
                hint="Check that a DAG of this name is deployed, and the values and types of the parameters.",
            )

    def _elsewhere(self, context: Context) -> str:
        hook = self._hook()
        self._announce(context["ti"], self._earlier_elsewhere(context, hook) or self._trigger(context, hook))
        if not self.wait_for_completion:
            return str(self.metaflow_pathspec)
        question = self._question("status")
        if self.deferrable:
            from airflow_provider_metaflow.triggers.metaflow import MetaflowTrigger

            trigger = MetaflowTrigger(self.metaflow_conn_id, question, poll_interval=self.poll_interval, terminate=True)
            self._defer(trigger)
        while not (answer := hook.ask(**question))["finished"]:
            time.sleep(self.poll_interval)
        return self._judge(answer)

    def _trigger(self, context: Context, hook: Any) -> str:
        given = dict(self.parameters or {})
        call: TriggerQuestion = {"op": "trigger", "deployment": self.deployment, "impl": self.impl, "parameters": given}
        pathspec = str(hook.ask(**call)["pathspec"])
        keep_run(self, context, pathspec=pathspec)
        return pathspec

    def _earlier_elsewhere(self, context: Context, hook: Any) -> str | None:
        pathspec = earlier_run(self, context).get("pathspec")
        if not isinstance(pathspec, str):
            return None
        answer = hook.ask(**{**self._question("status"), "pathspec": pathspec})
        if "error" in answer or (answer["finished"] and not answer["successful"]):
            return None
        self.log.info("The run of an earlier try of this task is waited for.")
        return pathspec

    def _defer(self, trigger: Any) -> NoReturn:
        self.defer(trigger=trigger, method_name="execute_complete", kwargs={"pathspec": self.metaflow_pathspec})

    def _announce(self, ti: Any, pathspec: str) -> None:
        """Tell which run it is before waiting for it."""
        self.metaflow_pathspec = pathspec
        self.log.info("Metaflow run %s of the deployment %s", pathspec, self.deployment)
        ti.xcom_push(key=PATHSPEC_KEY, value=pathspec)
        for link in self.operator_extra_links:
            ti.xcom_push(key=link.xcom_key, value=link.get_link(self, ti_key=ti))

    def _hook(self) -> Any:
        from airflow_provider_metaflow.hooks.metaflow import MetaflowHook

        return MetaflowHook(self.metaflow_conn_id)

    def _question(self, op: Literal["status", "terminate"]) -> StatusQuestion:
        return {"op": op, "deployment": self.deployment, "impl": self.impl, "pathspec": str(self.metaflow_pathspec)}

    def _judge_state(self, state: Any) -> str:
        return self._judge({"successful": _text(state) == "success", "status": _text(state)})

    def _judge(self, answer: Mapping[str, Any]) -> str:
        from metaflow_orchestration.exceptions import MetaflowQueryError, RunFailedError

        if "error" in answer:
            raise MetaflowQueryError(str(answer["error"]))
        if not answer["successful"]:
            raise RunFailedError(f"the run {self.metaflow_pathspec} ended as {answer.get('status')}.", flow=self.flow)
        return str(self.metaflow_pathspec)


def _text(state: Any) -> str:
    return str(getattr(state, "value", state))


def _detail(answer: Any) -> str:
    """Return what Airflow's API server has complained of."""
    detail = answer.detail or {}
    for key in ("detail", "message"):
        while isinstance(detail, Mapping) and key in detail:
            detail = detail[key]
    return str(detail.get("reason", detail) if isinstance(detail, Mapping) else detail)
