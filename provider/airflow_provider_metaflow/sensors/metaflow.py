"""Sensors: wait until a run has finished, or an artifact is there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator

from airflow_provider_metaflow._compat import conf
from airflow_provider_metaflow.links.metaflow import MetaflowRunLink
from airflow_provider_metaflow.operators.artifact import MAX_BYTES

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_metaflow.reading.documents import ArtifactQuestion, Question, RunQuestion, StatusQuestion


class _MetaflowSensor(BaseSensorOperator):
    """What both sensors have in common: poke, reschedule, or wait in the triggerer.

    :param metaflow_conn_id: connection of :class:`~airflow_provider_metaflow.hooks.metaflow.MetaflowHook`.
    :param deferrable: whether to wait in the triggerer.
    """

    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        metaflow_conn_id: str = "metaflow_default",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.metaflow_conn_id = metaflow_conn_id
        self.deferrable = deferrable

    def question(self) -> Question:
        """Return the question whose answer is waited for."""
        raise NotImplementedError

    def holds(self, answer: Mapping[str, Any]) -> bool:
        """Return whether the answer ends the waiting.

        :param answer: the answer.
        """
        raise NotImplementedError

    def poke(self, context: Context) -> bool:  # noqa: ARG002
        """Ask once.

        :param context: Airflow's task context.
        """
        from airflow_provider_metaflow.hooks.metaflow import MetaflowHook
        from metaflow_orchestration.exceptions import MetaflowQueryError

        try:
            answer = MetaflowHook(self.metaflow_conn_id).ask(**self.question())
        except MetaflowQueryError as error:
            if not error.transient:
                raise
            self.log.warning("Metaflow gave no answer, asking again: %s", error)
            return False
        return self.holds(answer)

    def execute(self, context: Context) -> Any:
        """Wait.

        :param context: Airflow's task context.
        """
        if not self.deferrable:
            return super().execute(context)
        if not self.poke(context):
            self._wait(0.0, deadline=time.time() + self.timeout)
        return None

    def execute_complete(
        self,
        context: Context,  # noqa: ARG002
        event: Mapping[str, Any],
        deadline: float | None = None,
    ) -> None:
        """Go on after the waiting in the triggerer.

        :param context: Airflow's task context.
        :param event: the answer that the trigger got.
        :param deadline: when the sensor's timeout is over, in seconds since 1970; None for a deferral of an older
            release, after which it begins again.
        """
        from metaflow_orchestration.exceptions import MetaflowQueryError

        if "error" in event:
            raise MetaflowQueryError(str(event["error"]))
        if not self.holds(event):
            self._wait(self.poke_interval, time.time() + self.timeout if deadline is None else deadline)

    def _wait(self, delay: float, deadline: float) -> None:
        from airflow_provider_metaflow.triggers.metaflow import MetaflowTrigger

        trigger = MetaflowTrigger(
            self.metaflow_conn_id, self.question(), poll_interval=float(self.poke_interval), delay=float(delay)
        )
        # What is left of the timeout: Airflow counts that of a deferral from its beginning, and ends the sensor then.
        self.defer(
            trigger=trigger,
            method_name="execute_complete",
            kwargs={"deadline": deadline},
            timeout=timedelta(seconds=max(deadline - time.time(), 0)),
        )


class MetaflowRunSensor(_MetaflowSensor):
    """Wait until a run has finished; fail if it failed.

    Only the orchestrator knows that a run has failed: give ``deployment`` and ``impl`` to have it asked. Without them
    the sensor sees successes, and a failed run as one that goes on.

    ```python
    from airflow_provider_metaflow import MetaflowRunSensor

    trained = MetaflowRunSensor(
        task_id="trained", run="TrainingFlow/argo-training-x7k2p", deployment="training", impl="argo-workflows"
    )
    ```

    New in version 0.1.0.

    :param run: ``Flow/run``; templated.
    :param deployment: name of its deployment.
    :param impl: Metaflow's deployer of it, e.g. ``airflow``.
    """

    template_fields: Sequence[str] = ("run", "deployment")
    operator_extra_links = (MetaflowRunLink(),)

    def __init__(self, *, run: str, deployment: str | None = None, impl: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.run = run
        self.deployment = deployment
        self.impl = impl

    @property
    def metaflow_pathspec(self) -> str:
        """The run, for the link to the Metaflow UI."""
        return self.run

    def question(self) -> RunQuestion | StatusQuestion:
        """Return the question whose answer is waited for."""
        if self.deployment is None:
            return {"op": "run", "pathspec": self.run}
        return {
            "op": "status",
            "pathspec": self.run,
            "deployment": self.deployment,
            "impl": self.impl or "airflow",
        }

    def holds(self, answer: Mapping[str, Any]) -> bool:
        """Return whether the run has finished.

        :param answer: the answer.
        """
        from metaflow_orchestration.exceptions import RunFailedError

        if answer.get("finished") and not answer["successful"]:
            raise RunFailedError(f"the run {self.run} has failed.")
        return bool(answer.get("finished"))


class MetaflowArtifactSensor(_MetaflowSensor):
    """Wait until an artifact exists, or meets a condition.

    ```python
    from airflow_provider_metaflow import MetaflowArtifactSensor

    good_enough = MetaflowArtifactSensor(
        task_id="good-enough",
        pathspec="{{ ti.xcom_pull('train') }}",
        artifact="accuracy",
        condition=lambda accuracy: accuracy > 0.9,
    )
    ```

    New in version 0.1.0.

    :param pathspec: ``Flow/run``, ``Flow/run/step`` or ``Flow/run/step/task``; templated.
    :param artifact: name of the artifact; templated.
    :param condition: function of its value, for artifacts that JSON can hold; default: any value will do.
    :param max_bytes: limit of its size, in bytes.
    """

    template_fields: Sequence[str] = ("pathspec", "artifact")

    def __init__(
        self,
        *,
        pathspec: str,
        artifact: str,
        condition: Callable[[Any], bool] | None = None,
        max_bytes: int = MAX_BYTES,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pathspec = pathspec
        self.artifact = artifact
        self.condition = condition
        self.max_bytes = max_bytes

    def question(self) -> ArtifactQuestion:
        """Return the question whose answer is waited for."""
        return {
            "op": "artifact",
            "pathspec": self.pathspec,
            "name": self.artifact,
            "max_bytes": self.max_bytes,
            "value": self.condition is not None,
        }

    def holds(self, answer: Mapping[str, Any]) -> bool:
        """Return whether the artifact is there, and as it should be.

        :param answer: the answer.
        """
        if not answer["exists"]:
            return False
        return self.condition is None or bool(self.condition(answer["value"]))
