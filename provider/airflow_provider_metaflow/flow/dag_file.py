"""What ``airflow create`` writes: a manifest and the DAG file of three lines that loads it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from airflow_provider_metaflow.exceptions import InvalidOptionError

from .manifest import SUFFIX, Manifest, encode_manifest, write_atomically

# `DAG(` stands there literally for tools that look for it to find DAG files.
_TEMPLATE = '''"""DAG({dag!r}) of the Metaflow flow {flow}, written by `airflow create`."""
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
    :raises InvalidOptionError: if no place is named or the file is the flow itself.
    """
    if file is None:
        if folder is None and "AIRFLOW_HOME" in environment:
            folder = str(Path(environment["AIRFLOW_HOME"]) / "dags")
        if folder is None:
            raise InvalidOptionError(
                "no place for the DAG file is named.",
                flow=name,
                hint="Give FILE, or set METAFLOW_AIRFLOW_DAGS_FOLDER to your Airflow's dags folder.",
            )
        target = Path(folder) / f"{name}.py"
    else:
        target = Path(file)
        if target.is_dir():
            target = target / f"{name}.py"
    if target.suffix != ".py":
        raise InvalidOptionError(
            f"the DAG file {target} has no .py suffix.", flow=name, hint="Airflow would not look at it."
        )
    if target.resolve() == Path(flow_file).resolve():
        raise InvalidOptionError(
            "Airflow DAG file name cannot be the same as flow file name.",
            flow=name,
            hint="Name another FILE.",
        )
    return target


def write(target: Path, manifest: Manifest) -> Iterator[str]:
    """Write manifest and DAG file, each whole or not at all; yield what to tell the user.

    :param target: the DAG file.
    :param manifest: the compiled flow.
    """
    beside = target.with_suffix(SUFFIX)
    pool = manifest.deployment.worker_pool
    try:
        write_atomically(beside, encode_manifest(manifest))
        write_atomically(
            target,
            _TEMPLATE.format(dag=manifest.deployment.name, flow=manifest.graph.name, manifest=beside.name).encode(),
        )
        if pool:
            pools = target.with_suffix(".pools.json")
            write_atomically(pools, pools_json([pool]))
            yield f"The pool {pool!r} must exist, or the tasks wait for ever: airflow pools import {pools}"
    except OSError as error:
        raise InvalidOptionError(
            f"{target.parent} cannot be written ({error.strerror}).",
            flow=manifest.graph.name,
            hint="Choose a folder that you may write to.",
        ) from error


def pools_json(pools: list[str], slots: int = 16) -> bytes:
    """Return a file for ``airflow pools import``.

    :param pools: names.
    :param slots: size of each.
    """
    content = {pool: {"slots": slots, "description": "Metaflow steps", "include_deferred": False} for pool in pools}
    return json.dumps(content, indent=2).encode() + b"\n"


def warnings(manifest: Manifest) -> Iterator[str]:
    """Yield what the deployment will not honour, each naming flow and steps.

    :param manifest: the compiled flow.
    """
    with_resources = [
        step.name
        for step in manifest.graph.steps
        if any(decorator.name == "resources" for decorator in step.decorators)
    ]
    if with_resources:
        yield (
            f"flow {manifest.graph.name}: @resources of {', '.join(with_resources)} is ignored: steps run as "
            "processes of the Airflow worker, whose limits are the pool's and the worker's."
        )
