"""Compiles a flow from Metaflow's own command line: what ``sfn create`` does first. Imports Metaflow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from metaflow_adapters.ownership import check_content
from metaflow_orchestration.compile.deploy import DeployOptions, Name, compile_manifest
from metaflow_orchestration.containers.options import base_attributes
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.compute import Compute

from .aws import Aws, start_parameters
from .jobs import on_kubernetes

MAX_TAG_KEY, MAX_TAG_VALUE = 128, 256
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
    for node in obj.graph:
        if any(one.name == Compute.KUBERNETES.value for one in node.decorators):
            raise on_kubernetes(obj.flow.name, node.name)
    decorators._attach_decorators(obj.flow, ["batch"])
    decorators._process_late_attached_decorator(
        ["batch"], obj.flow, obj.graph, obj.environment, obj.flow_datastore, obj.logger
    )
    obj.graph = obj.flow._graph
    return compile_manifest(obj, name, token, options, runtime="aws-step-functions")


def platforms(manifest: Manifest, given: str | None, aws: Aws | None) -> dict[str, str]:
    """Return the type of the compute environment of each queue.

    :param manifest: the compiled flow.
    :param given: ``--batch-platform``, for all of them.
    :param aws: clients of AWS; None where AWS is not asked.
    """
    queues = {(base_attributes(manifest, step, Compute.BATCH) or {}).get("queue") for step in manifest.graph.steps}
    known = sorted(queue for queue in queues if queue)
    if given is not None:
        return dict.fromkeys(known, given.upper())
    return {queue: aws.platform_of(queue) for queue in known} if aws is not None else {}


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
        problem = _tag_problem(name, value)
        if problem:
            raise InvalidOptionError(f"--aws-batch-tag {pair!r}: {problem}.", flow=flow)
        found[name] = value
    if len(found) > MAX_TAGS:
        raise InvalidOptionError(
            f"there are {len(found)} tags of --aws-batch-tag; a job takes {MAX_TAGS} beside those of its own.",
            flow=flow,
        )
    return found


def _tag_problem(name: str, value: str) -> str | None:
    """Return why AWS refuses a tag (AWS Batch user guide, "Tag restrictions").

    Metaflow's own check looks at the first character only.
    """
    if name.lower().startswith("aws:"):
        return "names that begin with aws: are kept for AWS"
    if len(name) > MAX_TAG_KEY or len(value) > MAX_TAG_VALUE:
        return f"a key has {MAX_TAG_KEY} characters at most, a value {MAX_TAG_VALUE}"
    bad = next((one for one in name + value if not (one.isalnum() or one.isspace() or one in "+-=._:/@")), None)
    return f"{bad!r} is not allowed in a tag; letters, digits, spaces and + - = . _ : / @ are" if bad else None
