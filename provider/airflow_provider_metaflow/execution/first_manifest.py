"""The manifest that a run began with, kept in the flow's datastore for the tasks that come after a redeployment.

It is named by its digest. What tells a task of it is an XCom, which users may edit; so it is looked for only where the
start step has put it, is compared with its digest, and must be of the same flow and datastore as the DAG file's own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec

from airflow_provider_metaflow.compute.local.processes import LocalCompute
from airflow_provider_metaflow.execution.started_code import started_code
from metaflow_orchestration.documents.manifest import Manifest, decode_manifest, deployed_part, encode_manifest
from metaflow_orchestration.exceptions import EditedXComError, MissingResultError
from metaflow_orchestration.run.outcome import InstanceOutcome

_CLEAR = "Clear the whole run, so that it runs what is deployed today."


def keep_manifest(manifest: Manifest, local: LocalCompute) -> str:
    """Put a manifest into the flow's datastore; return its digest.

    :param manifest: a compiled flow.
    :param local: the worker's own access to the datastore.
    """
    text = encode_manifest(deployed_part(manifest))
    digest = _digest(text)
    local.save_record(_name(digest), {"manifest": text.decode()})
    return digest


def begun_with(manifest: Manifest, instance: InstanceOutcome, local: Callable[[], LocalCompute]) -> Manifest:
    """Return the manifest that a run began with, which is the one of the DAG file unless it was deployed again.

    :param manifest: the compiled flow as it is deployed now.
    :param instance: what a task instance before this one has reported.
    :param local: returns the worker's own access to the datastore.
    :raises EditedXComError: if the report names something that is no manifest of this flow.
    :raises MissingResultError: if the manifest is gone from the datastore.
    """
    code = started_code(manifest, instance.code)
    if instance.manifest in ("", _digest(encode_manifest(deployed_part(manifest)))):
        return msgspec.structs.replace(manifest, code=code)
    record = local().load_record(_name(instance.manifest))
    text = str(record.get("manifest", "")).encode() if isinstance(record, dict) else b""
    if not text:
        raise MissingResultError(
            f"the manifest that the run began with, mf.dag_runs/…/{_name(instance.manifest)}, is not in the datastore "
            "any more, and another one has been deployed since.",
            flow=manifest.graph.name,
            hint=_CLEAR,
        )
    begun = decode_manifest(text, f"{_name(instance.manifest)} of the datastore")
    same = (manifest.graph.name, manifest.graph.shape, manifest.command.datastore_root, manifest.code.datastore)
    if (
        _digest(text) != instance.manifest
        or (begun.graph.name, begun.graph.shape, begun.command.datastore_root, begun.code.datastore) != same
        or begun.code.sha != instance.code
    ):
        raise EditedXComError(
            f"the manifest {instance.manifest[:12]} that the run is said to have begun with is none of this flow, its "
            "datastore and its code package.",
            flow=manifest.graph.name,
            hint=f"An XCom or the datastore was edited. {_CLEAR}",
        )
    # In the folder where the flow is now, for that of the earlier deployment may be gone.
    own = {"flow_file": begun.code.flow_file, "package": begun.code.package}
    return msgspec.structs.replace(begun, code=msgspec.structs.replace(code, **own))


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def _name(digest: str) -> str:
    return f"manifest-{digest}"
