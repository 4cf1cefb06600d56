"""What a deployed DAG tells about itself to those who have only Airflow's API: a record in the DAG's documentation.

The record stands in ``doc_md`` as a link definition, which Markdown does not show. It is the counterpart of the
annotations that Metaflow writes to an Argo workflow template. ``deploy/record.py`` reads it, and says what it holds.
"""

from __future__ import annotations

import base64
import hashlib

import msgspec

from metaflow_orchestration.documents.manifest import Manifest, encode_body

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


def shown_record(manifest: Manifest) -> str:
    """Return what the page in Airflow's web interface must know of a compiled flow, as JSON.

    It is a field of the serialized start step, where no documentation of a flow or a DAG can stand.

    :param manifest: the compiled flow.
    """
    graph = manifest.graph
    record = {
        "flow": graph.name,
        "owner": manifest.deployment.owner,
        "project": graph.project.name if graph.project else None,
        "branch": graph.project.branch if graph.project else None,
        "steps": [step.name for step in graph.steps],
        "metadata": manifest.command.metadata,
        "datastore": manifest.code.datastore,
        "datastore_root": manifest.command.datastore_root,
    }
    return msgspec.json.encode(record).decode()


def _digest(manifest: Manifest) -> str:
    # Without the token, which whoever knows the rest of the manifest could guess by the digest.
    body, token = encode_body(manifest), manifest.deployment.production_token.encode()
    return hashlib.sha256(body.replace(token, b"") if token else body).hexdigest()
