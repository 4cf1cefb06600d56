"""The code package that a run started with, known by its hash alone.

A run keeps the code that it started with, whatever has been deployed since. What tells a task of it is an XCom, which
users may edit; so the XCom holds a hash, and where the package lies follows from the manifest of the DAG file.
"""

from __future__ import annotations

import re

import msgspec

from metaflow_orchestration.documents.manifest import CodePackage, Manifest
from metaflow_orchestration.exceptions import EditedXComError

_SHA = re.compile(r"[0-9a-f]{40}")


def started_code(manifest: Manifest, sha: str) -> CodePackage:
    """Return the code package of a flow that has a hash; whoever unpacks it compares the hash with its content.

    :param manifest: the compiled flow, which says where its packages are and how they are unpacked.
    :param sha: SHA-1 of the package, by which Metaflow names it (``metaflow.datastore.content_addressed_store``).
    :raises EditedXComError: if it is no hash.
    """
    code = manifest.code
    if sha == code.sha:
        return code
    if _SHA.fullmatch(sha) is None:
        raise EditedXComError(
            f"the code package that the run started with is named {sha!r:.60}, which is no hash.",
            flow=manifest.graph.name,
            hint="Clear the start step, so that the run starts with the code of today.",
        )
    folder = f"{manifest.command.datastore_root.rstrip('/')}/{manifest.graph.name}/data"
    return msgspec.structs.replace(code, sha=sha, url=f"{folder}/{sha[:2]}/{sha}")
