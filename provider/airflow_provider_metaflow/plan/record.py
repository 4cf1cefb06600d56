"""What a deployed DAG says about itself for those who have only Airflow's API: a record in the DAG's documentation.

The record stands in ``doc_md`` as a link definition, which Markdown does not show. It is the counterpart of the
annotations that Metaflow writes to an Argo workflow template. ``deploy/record.py`` reads it, and says what it holds.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable

import msgspec

from metaflow_orchestration.documents.manifest import Manifest, deployed_part, encode_body

from .dag import contexts_task_id

LINE = "[metaflow-deployment]: <data:application/json;base64,{}>"


def record_line(manifest: Manifest) -> str:
    """Return the record of a compiled flow as a line of Markdown.

    :param manifest: the compiled flow.
    """
    graph, deployment = manifest.graph, manifest.deployment
    # A plain object, since every parse of a DAG file makes one.
    record = {
        "flow": graph.name,
        "owner": deployment.owner,
        "deployment": deployment.name,
        "token_proof": deployment.token_proof,
        "digest": _digest(manifest),
        "project": graph.project.name if graph.project else None,
        "branch": graph.project.branch if graph.project else None,
        "parameters": [msgspec.structs.replace(one, default=None) for one in graph.parameters],
        "steps": [step.name for step in graph.steps],
        "triggers": graph.triggers,
        "metadata": manifest.command.metadata,
        "datastore": manifest.code.datastore,
        "datastore_root": manifest.command.datastore_root,
    }
    return LINE.format(base64.b64encode(msgspec.json.encode(record)).decode())


def shown_record(manifest: Manifest, *, prefix: str = "", is_mapped: bool = False, given: Iterable[str] = ()) -> str:
    """Return what the page in Airflow's web interface must know of a compiled flow, as JSON.

    It is a field of the serialized start step, where no documentation of a flow or a DAG can stand.

    :param manifest: the compiled flow.
    :param prefix: what the Airflow task ids of the flow start with.
    :param is_mapped: whether the whole flow stands in a mapped task group.
    :param given: names of the parameters whose values the DAG file gives.
    """
    graph = manifest.graph
    steps = {step.name: step for step in graph.steps}
    inside = [step for step in graph.steps if step.foreach_path]
    more = {
        "prefix": prefix,
        "is_mapped": is_mapped,
        "given": sorted(given),
        "events": [(one.event, [name for name, _ in one.parameters]) for one in graph.triggers if one.parameters],
        "foreachs": [
            (step.name, contexts_task_id(steps[step.foreach_path[-1]]), len(step.foreach_path)) for step in inside
        ],
    }
    record = {
        "flow": graph.name,
        "owner": manifest.deployment.owner,
        "project": graph.project.name if graph.project else None,
        "branch": graph.project.branch if graph.project else None,
        "steps": [step.name for step in graph.steps],
        "metadata": manifest.command.metadata,
        "datastore": manifest.code.datastore,
        "datastore_root": manifest.command.datastore_root,
        **{name: value for name, value in more.items() if value},
    }
    return msgspec.json.encode(record).decode()


def _digest(manifest: Manifest) -> str:
    # Without the token, which whoever knows the rest of the manifest could guess by the digest.
    body, token = encode_body(deployed_part(manifest)), manifest.deployment.production_token.encode()
    return hashlib.sha256(body.replace(token, b"") if token else body).hexdigest()
