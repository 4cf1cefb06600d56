"""The operator that reads a small artifact of a run into an XCom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

MAX_BYTES = 48 * 1024
"""Default limit: XComs are rows of Airflow's database."""


class MetaflowArtifactOperator(BaseOperator):
    """Return an artifact, if it is small and JSON can hold it.

    ```python
    from airflow_provider_metaflow import MetaflowArtifactOperator

    accuracy = MetaflowArtifactOperator(
        task_id="accuracy", pathspec="{{ ti.xcom_pull('train') }}", artifact="accuracy"
    )
    ```

    New in version 0.1.0.

    :param pathspec: ``Flow/run`` (the run's end task), ``Flow/run/step`` (the step's only task) or
        ``Flow/run/step/task``; templated.
    :param artifact: name of the artifact; templated.
    :param max_bytes: limit of its size, in bytes, both stored and as JSON.
    :param metaflow_conn_id: connection of :class:`~airflow_provider_metaflow.hooks.metaflow.MetaflowHook`.
    """

    template_fields: Sequence[str] = ("pathspec", "artifact")
    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        pathspec: str,
        artifact: str,
        max_bytes: int = MAX_BYTES,
        metaflow_conn_id: str = "metaflow_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pathspec = pathspec
        self.artifact = artifact
        self.max_bytes = max_bytes
        self.metaflow_conn_id = metaflow_conn_id

    def execute(self, context: Context) -> Any:  # noqa: ARG002
        """Return the value.

        :param context: Airflow's task context.
        """
        from airflow_provider_metaflow.hooks.metaflow import MetaflowHook
        from metaflow_orchestration.exceptions import MissingResultError

        hook = MetaflowHook(self.metaflow_conn_id)
        answer = hook.ask("artifact", pathspec=self.pathspec, name=self.artifact, max_bytes=self.max_bytes)
        if not answer["exists"]:
            raise MissingResultError(f"{answer['message']}.", hint="Wait for it with MetaflowArtifactSensor.")
        return answer["value"]


def artifact(pathspec: Any, name: str, *, task_id: str | None = None, **arguments: Any) -> Any:
    """Return a small artifact of a run as an XCom, e.g. ``artifact(train.pathspec, "accuracy")``.

    ```python
    from airflow_provider_metaflow import MetaflowRunOperator, artifact

    train = MetaflowRunOperator(task_id="train", deployment="training")
    accuracy = artifact(train.output, "accuracy")
    ```

    New in version 0.1.0.

    :param pathspec: see :class:`MetaflowArtifactOperator`; may be an XCom.
    :param name: name of the artifact.
    :param task_id: id of the task that reads it; default: ``artifact-<name>``.
    :param arguments: further arguments of the operator.
    """
    operator = MetaflowArtifactOperator(
        task_id=task_id or f"artifact-{name}", pathspec=pathspec, artifact=name, **arguments
    )
    return operator.output
