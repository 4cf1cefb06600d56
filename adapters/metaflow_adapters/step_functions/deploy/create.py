"""Compiles a flow from Metaflow's own command line: what ``sfn create`` does first. Imports Metaflow."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from metaflow_adapters.ownership import check_content
from metaflow_adapters.step_functions.aws.client import Aws, start_parameters
from metaflow_adapters.step_functions.emit.job_settings import on_kubernetes
from metaflow_adapters.step_functions.emit.tags import tag_problem
from metaflow_orchestration.compile.deployment.manifest import compile_manifest
from metaflow_orchestration.compile.deployment.names import Name
from metaflow_orchestration.compile.deployment.options import DeployOptions
from metaflow_orchestration.containers.options import base_attributes
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.compute import Compute

MAX_TAGS = 44
"""AWS takes 50 tags of a job; six are for those that the deployer adds."""


class MachineStore:
    """Keeps the production token of a deployment in its state machine, as Metaflow's own deployer does.

    :param aws: clients of AWS.
    :param name: name of the state machine.
    :param flow: name of the flow.
    """

    target, group = "AWS Step Functions", "sfn"

    def __init__(self, aws: Aws, name: str, flow: str) -> None:
        self._aws, self._name, self._flow = aws, name, flow

    def load(self) -> tuple[str | None, str | None]:
        """Return owner and token of the deployed state machine."""
        found = self._aws.find_machine(self._name)
        if found is None:
            return None, None
        parameters = start_parameters(found)
        said = parameters or {}
        held = said.get("metaflow.flow_name")
        check_content("state machine", self._name, self._flow, is_flow=parameters is not None, held=held)
        return said.get("metaflow.owner"), said.get("metaflow.production_token")

    def save(self, owner: str, token: str) -> None:
        """Do nothing: the state machine that is deployed next holds both."""


def compile_for_aws(obj: Any, name: Name, token: str, options: DeployOptions) -> Manifest:
    """Compile the flow of a Metaflow command line, with a job of AWS Batch for each step.

    :param obj: state of Metaflow's command line.
    :param name: name of the deployment.
    :param token: production token.
    :param options: options of ``create``.
    """
    from metaflow import decorators

    if obj.flow_datastore.TYPE != "s3":
        raise InvalidOptionError(
            f"AWS Step Functions needs --datastore=s3, and it has {obj.flow_datastore.TYPE!r}.",
            flow=obj.flow.name,
            hint="Give `--datastore=s3` before `sfn`, or set METAFLOW_DEFAULT_DATASTORE=s3.",
        )
    refuse_kubernetes(obj.flow.name, obj.graph)
    decorators._attach_decorators(obj.flow, ["batch"])
    decorators._process_late_attached_decorator(
        ["batch"], obj.flow, obj.graph, obj.environment, obj.flow_datastore, obj.logger
    )
    obj.graph = obj.flow._graph
    return compile_manifest(obj, name, token, options, runtime="aws-step-functions")


def refuse_kubernetes(flow: str, graph: Iterable[Any]) -> None:
    """Refuse a step that asks for a pod.

    :param flow: name of the flow.
    :param graph: nodes of Metaflow's graph.
    :raises UnsupportedFeatureError: naming the first such step.
    """
    for node in graph:
        if any(one.name == Compute.KUBERNETES.value for one in node.decorators):
            raise on_kubernetes(flow, node.name)


def platforms(manifest: Manifest, given: str | None, aws: Aws | None) -> dict[str, str]:
    """Return the type of the compute environment of each queue.

    :param manifest: the compiled flow.
    :param given: ``--batch-platform``, for all of them.
    :param aws: clients of AWS; None where AWS is not asked.
    """
    known = _queues(manifest)
    if given is not None:
        return dict.fromkeys(known, given.upper())
    return {queue: aws.platform_of(queue) for queue in known} if aws is not None else {}


def _queues(manifest: Manifest) -> list[str]:
    queues = {(base_attributes(manifest, step, Compute.BATCH) or {}).get("queue") for step in manifest.graph.steps}
    return sorted(queue for queue in queues if queue)


DEFAULT_SHARE = "metaflow"
"""Share of jobs in a fair-share queue, which takes no job without one."""


def shares(manifest: Manifest, given: str | None, aws: Aws | None) -> str | dict[str, str] | None:
    """Return the share of jobs in fair-share queues, by queue.

    :param manifest: the compiled flow.
    :param given: ``--share-identifier``.
    :param aws: clients of AWS; None where AWS is not asked, and what is given is for all queues.
    :raises InvalidOptionError: if it is no share, or no queue is a fair-share queue.
    """
    flow = manifest.graph.name
    if given is not None and not re.fullmatch("[A-Za-z0-9]{1,255}", given):
        raise InvalidOptionError(
            f"--share-identifier {given!r} is none.", flow=flow, hint="Use letters and digits only, 255 at most."
        )
    if aws is None:
        return given
    # AWS Batch refuses jobs with a share in any other queue.
    fair = [queue for queue in _queues(manifest) if aws.queue(queue).get("schedulingPolicyArn")]
    if given is not None and not fair:
        raise InvalidOptionError(
            f"--share-identifier is {given!r}, and none of its queues has a scheduling policy.",
            flow=flow,
            hint="Leave it out, or use a fair-share queue.",
        )
    return dict.fromkeys(fair, given or DEFAULT_SHARE)


def batch_tags(flow: str, given: Sequence[str]) -> dict[str, str]:
    """Return the values of ``--aws-batch-tag``; those of Metaflow's configuration stand in ``@batch``.

    :param flow: name of the flow.
    :param given: pairs ``KEY=VALUE``.
    :raises InvalidOptionError: if one is none, or AWS would refuse it.
    """
    found = {}
    for pair in given:
        name, sign, value = pair.partition("=")
        if not sign or not name:
            raise InvalidOptionError(
                f"--aws-batch-tag {pair!r} is no pair.", flow=flow, hint="Give it in the form KEY=VALUE."
            )
        problem = tag_problem(name, value)
        if problem:
            raise InvalidOptionError(f"--aws-batch-tag {pair!r}: {problem}.", flow=flow)
        found[name] = value
    if len(found) > MAX_TAGS:
        raise InvalidOptionError(
            f"there are {len(found)} tags of --aws-batch-tag; a job takes {MAX_TAGS} beside those of its own.",
            flow=flow,
        )
    return found
