"""What a deployment uses in AWS, from which its policies are made."""

from __future__ import annotations

from collections.abc import Iterator

from metaflow_adapters.notifications import notified_endpoints
from metaflow_adapters.step_functions.emit.documents import FOLDER
from metaflow_adapters.step_functions.emit.job_definitions import DEFAULT_LOG_GROUP, definition_patterns
from metaflow_adapters.step_functions.emit.job_states import MachineContext
from metaflow_adapters.step_functions.emit.jobs import Jobs
from metaflow_adapters.step_functions.emit.resources import PolicyDocument, Resources
from metaflow_adapters.step_functions.language.states import Map, Scope
from metaflow_adapters.step_functions.plan.names import DEPLOYMENT_TAG, UNKNOWN_SECRET, secret_name
from metaflow_adapters.step_functions.settings import AwsSettings
from metaflow_orchestration.containers.objects import BatchObject
from metaflow_orchestration.documents.container_settings import remote_settings
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.graph.compute import attributes_of

from .deployer import deployer_policy, divided
from .roles import Needs, policies

_OWN_SECRETS = "aws-secrets-manager"


def needs_of(
    manifest: Manifest, jobs: Jobs, states: Scope, context: MachineContext, resources: Resources, *, logged: bool
) -> Needs:
    """Return what a deployment uses.

    :param manifest: the compiled flow.
    :param jobs: its jobs.
    :param states: the states of its machine.
    :param context: what they share.
    :param resources: what it is made of besides its states.
    :param logged: whether its history is logged.
    """
    notifications = manifest.deployment.notifications
    root = f"{context.bucket}/{context.root}"
    is_tagged = all(DEPLOYMENT_TAG in one.tags for one in jobs.by_step.values())
    return Needs(
        machine=manifest.deployment.name,
        helpers=tuple(resources.state_machines),
        definitions=definition_patterns(manifest.deployment.name),
        queues=tuple(dict.fromkeys(one.queue for one in jobs.by_step.values())),
        bucket=context.bucket,
        written=tuple(_written(manifest, context)),
        documents=(f"{root}{FOLDER}/documents/",),
        read=tuple(_read(manifest, root)),
        reports=context.prefix,
        distributed=any(isinstance(one, Map) and one.distributed for one in states.all_states()),
        gangs=any(step.gang for step in manifest.graph.steps),
        tag=(DEPLOYMENT_TAG, manifest.deployment.name) if is_tagged else None,
        logged=logged,
        topic=notifications.sns_topic if notifications is not None else None,
        job_secrets=tuple(dict.fromkeys(_job_secrets(manifest))),
        endpoint_secrets=tuple(_endpoint_secrets(manifest)),
    )


def all_policies(needs: Needs, settings: AwsSettings, resources: Resources) -> dict[str, PolicyDocument]:
    """Return all policy documents of a deployment, that of the deployer too.

    :param needs: what the deployment uses.
    :param settings: how the installation uses AWS.
    :param resources: what it is made of.
    """
    place = settings.place()
    containers = [one.get("containerProperties") or _of_nodes(one) for one in resources.job_definitions]
    roles = [one.get(name) for one in containers for name in ("jobRoleArn", "executionRoleArn")]
    deployer = deployer_policy(
        place,
        needs,
        machine_roles=[settings.machine_role] if settings.machine_role else [],
        events_roles=[settings.events_role] if settings.events_role else [],
        job_roles=list(dict.fromkeys(str(one) for one in roles if one)),
        log_groups=list(dict.fromkeys(_log_group(one) for one in containers)),
    )
    return {**divided(deployer), **policies(place, needs)}


def _log_group(container: BatchObject) -> str:
    options = (container.get("logConfiguration") or {}).get("options") or {}
    return str(options.get("awslogs-group", DEFAULT_LOG_GROUP))


def _of_nodes(definition: BatchObject) -> BatchObject:
    container: BatchObject = definition["nodeProperties"]["nodeRangeProperties"][0]["container"]
    return container


def _written(manifest: Manifest, context: MachineContext) -> Iterator[str]:
    """Yield what begins the objects of a flow: its datastore, ``S3(run=…)`` with files, and cards."""
    flow, root = manifest.graph.name, f"{context.bucket}/{context.root}"
    yield f"{root}{flow}/"
    for variable, suffix in (("METAFLOW_DATATOOLS_S3ROOT", "data"), ("METAFLOW_CARD_S3ROOT", "mf.cards")):
        yield f"{_root(manifest, variable) or root + suffix}/{flow}/"
    if any(step.gang for step in manifest.graph.steps):
        # Where the nodes of a gang find each other.
        yield f"{root}mf.gangs/{flow}/"
    yield f"{context.bucket}/{context.prefix}"


def _read(manifest: Manifest, root: str) -> Iterator[str]:
    """Yield what begins the objects that a flow only reads: of flows that it follows, and packages of conda."""
    for trigger in manifest.graph.triggers:
        if trigger.of_run:
            yield f"{root}{trigger.event.removesuffix('.end').rpartition('.')[2]}/"
    if remote_settings(manifest).containers:
        yield f"{_root(manifest, 'METAFLOW_CONDA_PACKAGE_S3ROOT') or root + 'conda'}/"


def _root(manifest: Manifest, variable: str) -> str:
    return remote_settings(manifest).environment.get(variable, "").removeprefix("s3://").rstrip("/")


def _endpoint_secrets(manifest: Manifest) -> Iterator[str]:
    """Yield the secrets with addresses of endpoints; the deployment's own one by its name until it is made."""
    for secret in dict.fromkeys(notified_endpoints(manifest.deployment.notifications).values()):
        yield secret_name(manifest.deployment.name) if secret == UNKNOWN_SECRET else secret


def _job_secrets(manifest: Manifest) -> Iterator[str]:
    """Yield the secrets of AWS Secrets Manager that steps read by ``@secrets``."""
    default = remote_settings(manifest).environment.get("METAFLOW_DEFAULT_SECRETS_BACKEND_TYPE", "")
    for step in manifest.graph.steps:
        for source in (attributes_of(step, "secrets") or {}).get("sources") or ():
            if isinstance(source, str):
                # `type.id`, or an id of the default backend, which may have dots.
                kind, dot, rest = source.partition(".")
                kind, name = (kind, rest) if dot and kind == _OWN_SECRETS else (default, source)
            else:
                kind, name = str(source.get("type") or default), str(source.get("id") or "")
            if kind == _OWN_SECRETS and name:
                yield name
