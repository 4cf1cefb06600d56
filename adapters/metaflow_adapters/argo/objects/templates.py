"""The templates of a plan, as :mod:`~.spec` holds them. Decides nothing: the plan and the containers say it all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from metaflow_adapters.argo.plan.flow import (
    ITERATION,
    NEXT,
    NODES,
    PLACE,
    DagPlan,
    FlowPlan,
    LoopPlan,
    StepPlan,
    TaskPlan,
)

from .containers import EnvVar, SharedContainer, StepContainer, retry_expression
from .metadata import step_annotations, step_labels
from .spec import DAG, Container, Parameter, Raw, RetryStrategy, Spec, Step, Steps, Suspend, Task, model, raw

Template = Spec
"""A template: ``Container``, ``DAG``, ``Resource``, ``Steps`` or ``Suspend``."""


def emit_dag(plan: DagPlan, place: str | None = None) -> Spec:
    """Return the DAG template of the steps that share a foreach path.

    :param plan: its plan.
    :param place: default of the index path, for the entry of a flow that is a part of a user's workflow.
    """
    return DAG(
        name=plan.name,
        inputs=[_input(PLACE, place)] if plan.has_place else None,
        tasks=[_task(task) for task in plan.tasks],
    )


def _input(name: str, value: str | None = None) -> Spec:
    return Parameter(name=name) if value is None else Parameter(name=name, value=value)


def _task(plan: TaskPlan) -> Spec:
    return Task(
        name=plan.name,
        template=plan.template,
        depends=plan.depends or None,
        when=plan.when or None,
        with_sequence=model("Sequence", count=plan.count) if plan.count is not None else None,
        arguments=[Parameter(name=name, value=value) for name, value in plan.arguments] or None,
    )


def emit_loop(plan: LoopPlan) -> Spec:
    """Return the template of a recursive switch.

    :param plan: its plan.
    """
    place = [Parameter(name=PLACE, value=f"{{{{inputs.parameters.{PLACE}}}}}")] if plan.has_place else []
    here = f"{{{{inputs.parameters.{ITERATION}}}}}"
    following = f"{{{{=asInt(inputs.parameters.{ITERATION}) + 1}}}}"
    own, deeper = f"steps.once.outputs.parameters.{NEXT}", f"steps.again.outputs.parameters.{NEXT}"
    last = f"steps.again.status == 'Succeeded' ? {deeper} : {own}"
    return Steps(
        name=plan.name,
        inputs=[*([_input(PLACE)] if plan.has_place else []), _input(ITERATION, "0")],
        outputs=[Parameter(name=NEXT, value_from=model("ValueFrom", expression=last, default=""))],
        sub_steps=[
            Step(name="once", template=plan.template, arguments=[*place, Parameter(name=ITERATION, value=here)]),
            Step(
                name="again",
                template=plan.name,
                when=f"'{{{{steps.once.outputs.parameters.{NEXT}}}}}' == '{plan.step}'",
                arguments=[*place, Parameter(name=ITERATION, value=following)],
            ),
        ],
    )


def emit_gate(name: str) -> Spec:
    """Return a template that does nothing, without a pod.

    :param name: its name.
    """
    return Suspend(name=name, duration="0")


def emit_step(plan: StepPlan, made: StepContainer, shared: SharedContainer | None) -> Spec:
    """Return the template of a step's container.

    :param plan: its plan.
    :param made: what it holds.
    :param shared: command and variables of all steps, where the workflow does not hold them for all.
    """
    own, pod = made.container, made.pod
    shared_env: list[EnvVar] = shared["env"] if shared else []
    metadata = pod["metadata"]
    return Container(
        name=plan.name,
        inputs=[_input(name, "0" if name == ITERATION else None) for name in plan.inputs] or None,
        outputs=_output(plan, made),
        image=own["image"],
        image_pull_policy=own.get("imagePullPolicy"),
        command=own.get("command") or (shared["command"] if shared else None),
        termination_message_path=shared["terminationMessagePath"] if shared else None,
        env=_models("EnvVar", [*shared_env, *own["env"]]),
        env_from=_models("EnvFromSource", own.get("envFrom")),
        ports=_models("ContainerPort", own.get("ports")),
        resources=raw("ResourceRequirements", own.get("resources")),
        volumes=_models("Volume", pod.get("volumes")),
        volume_mounts=_models("VolumeMount", own.get("volumeMounts")),
        security_context=raw("SecurityContext", own.get("securityContext")),
        service_account_name=pod.get("serviceAccountName"),
        node_selector=pod.get("nodeSelector"),
        tolerations=_models("Toleration", pod.get("tolerations")),
        labels=step_labels(metadata.get("labels", {}), plan.step),
        annotations=step_annotations(metadata.get("annotations", {}), plan.step, made.retries),
        active_deadline_seconds=made.deadline_seconds,
        retry_strategy=retry_of(made),
    )


def _output(plan: StepPlan, made: StepContainer) -> list[Spec] | None:
    if plan.output is None:
        return None
    name, default = plan.output
    return [Parameter(name=name, value_from=model("ValueFrom", path=made.output_path, default=default))]


def retry_of(made: StepContainer) -> Spec | None:
    """Return how a step is tried again, None if it is not.

    :param made: its container.
    """
    if not made.retries:
        return None
    backoff = model("Backoff", duration=f"{made.delay_seconds:g}s") if made.delay_seconds else None
    return RetryStrategy(limit=made.retries, retry_policy="Always", backoff=backoff, expression=retry_expression())


def _models(kind: str, given: Iterable[Any] | None) -> list[Spec] | None:
    return [Raw(kind, one) for one in given or ()] or None


def emit_templates(
    plan: FlowPlan,
    containers: dict[str, StepContainer],
    shared: SharedContainer | None,
    emit_gang: Callable[[StepPlan, StepContainer], Template],
    place: str | None = None,
) -> list[Template]:
    """Return all templates of a flow.

    :param plan: the plan of the flow.
    :param containers: the containers, by step.
    :param shared: see :func:`emit_step`.
    :param emit_gang: makes the template of a ``@parallel`` step.
    :param place: see :func:`emit_dag`.
    """
    entry, *bodies = plan.dags
    return [
        emit_dag(entry, place),
        *(emit_dag(one) for one in bodies),
        *(emit_loop(one) for one in plan.loops),
        *([emit_gate(plan.gate)] if plan.gate else []),
        *(
            emit_gang(one, containers[one.step])
            if NODES in one.inputs
            else emit_step(one, containers[one.step], shared)
            for one in plan.steps
        ),
    ]
