"""What ``airflow create`` writes: a manifest and the DAG file of three lines that loads it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from airflow_provider_metaflow.plan.executors import KUBERNETES, starts_pods
from airflow_provider_metaflow.rest.endpoint import is_this_machine
from metaflow_orchestration.documents.manifest import (
    SUFFIX,
    Manifest,
    decode_manifest,
    encode_manifest,
    write_atomically,
)
from metaflow_orchestration.exceptions import InvalidOptionError, ManifestError, MissingExtraError
from metaflow_orchestration.graph.compute import Compute, compute_of

from .dag_ids import WRITTEN_BY, notices
from .record import record_of

_EXECUTOR = "AIRFLOW__CORE__EXECUTOR"
"""Airflow's setting, where a flow is deployed from a machine of its own."""

# Tools that look for DAG files, Metaflow's own among them, look for a call of something named `DAG`.
_TEMPLATE = '''"""DAG({dag!r}) of the Metaflow flow {flow}, {written_by}."""
from airflow_provider_metaflow import MetaflowDag as DAG

dag = DAG({manifest!r})
'''
_OLD_TEMPLATE = '''"""DAG({dag!r}) of the Metaflow flow {flow}, {written_by}."""
from airflow_provider_metaflow import MetaflowDag

dag = MetaflowDag({manifest!r})  # airflow.sdk.DAG(
'''


def target_file(
    name: str, file: str | None, folder: str | None, environment: Mapping[str, str], flow_file: str
) -> Path:
    """Return where the DAG file goes.

    :param name: DAG id.
    :param file: argument of ``create``: a file or a folder.
    :param folder: ``METAFLOW_AIRFLOW_DAGS_FOLDER``.
    :param environment: environment variables, for ``AIRFLOW_HOME``.
    :param flow_file: the flow, which must not be overwritten.
    :raises InvalidOptionError: if no folder is set or the file is the flow itself.
    """
    if file is None:
        if folder is None and "AIRFLOW_HOME" in environment:
            folder = str(Path(environment["AIRFLOW_HOME"]) / "dags")
        if folder is None:
            raise InvalidOptionError(
                "METAFLOW_AIRFLOW_DAGS_FOLDER is not set, so it is not known where the DAG file goes.",
                flow=name,
                hint="Set it to your Airflow's dags folder or the prefix of "
                "its DAG bundle, e.g. s3://bucket/dags, or give the path of the DAG file to `airflow create`.",
            )
        target = _path(folder, name) / f"{name}.py"
    else:
        target = _path(file, name)
        if file.endswith("/") or (isinstance(target, Path) and target.is_dir()):
            target = target / f"{name}.py"
    if target.suffix != ".py":
        raise InvalidOptionError(
            f"the DAG file {target} has no .py suffix.", flow=name, hint="Airflow would not look at it."
        )
    if isinstance(target, Path) and target.resolve() == Path(flow_file).resolve():
        raise InvalidOptionError(
            "Airflow DAG file name cannot be the same as flow file name.",
            flow=name,
            hint="Name another FILE.",
        )
    return target


def _path(text: str, name: str) -> Path:
    """Return a local path, or one in an object store (``cloudpathlib.CloudPath``, which has the same methods)."""
    if "://" not in text:
        return Path(text)
    scheme = text.split("://", 1)[0]
    try:
        from cloudpathlib import AnyPath
        from cloudpathlib.exceptions import CloudPathException, MissingDependenciesError

        try:
            remote: Any = AnyPath(text)
        except MissingDependenciesError as error:
            raise ImportError(str(error)) from None
    except ImportError as error:
        raise MissingExtraError(
            f"writing to {scheme}:// needs more packages ({error}).",
            flow=name,
            hint='pip install "airflow-provider-metaflow[s3]" or "airflow-provider-metaflow[gcs]"',
        ) from None
    except CloudPathException as error:
        raise InvalidOptionError(f"{text} cannot be written to ({error}).", flow=name) from None
    if isinstance(remote, Path):
        raise InvalidOptionError(f"{text} cannot be written to.", flow=name, hint="Use a path, s3://…, or gs://….")
    return remote  # type: ignore[no-any-return]


def write(target: Path, manifest: Manifest) -> Iterator[str]:
    """Write manifest and DAG file, each whole or not at all; yield the messages for the user.

    :param target: the DAG file.
    :param manifest: the compiled flow.
    :raises InvalidOptionError: if another DAG would be overwritten, or nothing can be written.
    """
    beside = target.with_suffix(SUFFIX)
    pool = manifest.deployment.worker_pool
    yield from notices(target, manifest.deployment.name, manifest.graph.name, manifest.code.flow_file)
    try:
        write_atomically(beside, encode_manifest(manifest))
        write_atomically(target, _dag_text(target, manifest).encode())
        if pool:
            pools = target.with_suffix(".pools.json")
            write_atomically(pools, pools_json([pool]))
            yield f"The pool {pool!r} must exist, or the tasks wait for ever: airflow pools import {pools}"
    except Exception as error:
        # The clients of object stores have errors of their own.
        if isinstance(target, Path) and not isinstance(error, OSError):
            raise
        raise InvalidOptionError(
            f"{target.parent} cannot be written ({getattr(error, 'strerror', None) or error}).",
            flow=manifest.graph.name,
            hint="Choose a folder that you may write to.",
        ) from error


def published_digest(target: Path | None) -> str | None:
    """Return the digest of the deployment that lies at a place, None if none can be read there.

    :param target: the DAG file.
    """
    if target is None:
        return None
    try:
        data = target.with_suffix(SUFFIX).read_bytes()
    except Exception:  # also the errors of an object store's client
        return None
    return record_of(decode_manifest(data, str(target))).digest


def read_deployment(target: Path, name: str, flow: str) -> Manifest:
    """Return the manifest of the deployment whose files lie at a place.

    :param target: the DAG file.
    :param name: name that the deployment must have.
    :param flow: flow that it must be of.
    :raises InvalidOptionError: if ``create`` has not written it.
    """
    beside = target.with_suffix(SUFFIX)
    try:
        manifest = decode_manifest(beside.read_bytes(), str(beside))
        text = target.read_text(encoding="utf-8")
    except Exception as error:
        if isinstance(error, ManifestError):
            raise
        raise InvalidOptionError(
            f"there is no deployment at {target}.",
            flow=flow,
            hint="Give the FILE that `create` wrote, or set METAFLOW_AIRFLOW_DAGS_FOLDER.",
        ) from None
    if (manifest.deployment.name, manifest.graph.name) != (name, flow) or text not in (
        _dag_text(target, manifest),
        _dag_text(target, manifest, _OLD_TEMPLATE),
    ):
        raise InvalidOptionError(
            f"{target} was not written by `airflow create` of {name}, or was changed since.",
            flow=flow,
            hint="Remove it by hand.",
        )
    return manifest


def remove(target: Path) -> Iterator[str]:
    """Remove what :func:`write` wrote; yield what was removed.

    :param target: the DAG file.
    """
    # The DAG file first: without its manifest it would be an import error.
    for path in (target, target.with_suffix(SUFFIX), target.with_suffix(".pools.json")):
        if path.exists():
            path.unlink(missing_ok=True)
            yield f"Removed {path}"


def _dag_text(target: Path, manifest: Manifest, template: str = _TEMPLATE) -> str:
    return template.format(
        dag=manifest.deployment.name,
        flow=manifest.graph.name,
        written_by=WRITTEN_BY,
        manifest=target.with_suffix(SUFFIX).name,
    )


def pools_json(pools: list[str], slots: int = 16) -> bytes:
    """Return a file for ``airflow pools import``.

    :param pools: names.
    :param slots: size of each.
    """
    content = {pool: {"slots": slots, "description": "Metaflow steps", "include_deferred": False} for pool in pools}
    return json.dumps(content, indent=2).encode() + b"\n"


def unreachable_datastore(manifest: Manifest, target: Any, url: str | None) -> str | None:
    """Return a warning if the workers of a remote Airflow would not see the datastore of a flow.

    :param manifest: the compiled flow.
    :param target: the DAG file.
    :param url: ``METAFLOW_AIRFLOW_URL``.
    """
    if manifest.code.datastore != "local":
        return None
    if not isinstance(target, Path):
        airflow = f"an Airflow that reads its DAGs from {target.parent}"
    elif url and not is_this_machine(url):
        airflow = f"the Airflow at {url}"
    else:
        return None
    return (
        f"flow {manifest.graph.name}: its code and runs are kept in the folder {manifest.command.datastore_root} of "
        f"this machine, which {airflow} may not see. Deploy with --datastore=s3, azure or gs, unless that folder is a "
        "network share at the same path on every worker."
    )


def warnings(manifest: Manifest) -> Iterator[str]:
    """Yield what the deployment will not honour, each naming flow and steps.

    :param manifest: the compiled flow.
    """
    with_resources = [
        step.name
        for step in manifest.graph.steps
        if compute_of(step) is Compute.LOCAL and any(decorator.name == "resources" for decorator in step.decorators)
    ]
    if with_resources and not starts_pods(os.environ.get(_EXECUTOR, ""), None):
        yield (
            f"flow {manifest.graph.name}: @resources of {', '.join(with_resources)} counts on Airflow's {KUBERNETES} "
            "only, where it sizes the worker pod: on others, steps run as processes of a worker, whose limits are the "
            "pool's and the worker's."
        )
    if any(one.name == "exit_hook" and one.attributes.get("options") for one in manifest.graph.decorators):
        yield (
            f"flow {manifest.graph.name}: @exit_hook(options=…) is ignored: hooks run as processes of the Airflow "
            "worker, with its packages."
        )
    for trigger in manifest.graph.triggers:
        _, _, step = trigger.event.rpartition(".")
        if trigger.event.startswith("metaflow.") and step != "end":
            yield (
                f"flow {manifest.graph.name}: the event {trigger.event} comes only from a flow that was deployed with "
                "--emit-step-events."
            )
