"""How the nodes of a ``@parallel`` step find each other: through the datastore."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from typing import Any

from task_place import ADDRESS_VARIABLE, GANG_VARIABLE, RUN_VARIABLE  # type: ignore[import-not-found]


def meet(document: dict[str, Any], datastore: Any, count: Any, nodes: int) -> int:
    """Bring the nodes of a gang together: the control node leaves its address and attempt where the others look.

    Only it counts the attempts: the others would count the one that it has just started.

    :param document: document of the step, which learns the number of nodes and the address.
    :param datastore: datastore of the flow.
    :param count: function that returns the number of the attempt.
    :param nodes: number of nodes.
    :return: the attempt.
    """
    document["gang"] = nodes
    storage = datastore._storage_impl
    # In a folder of the flow, so that a job needs no rights on those of others.
    path = storage.path_join("mf.gangs", datastore.flow_name, os.environ[RUN_VARIABLE], os.environ[GANG_VARIABLE])
    if int(os.environ.get("JOB_COMPLETION_INDEX") or os.environ.get("AWS_BATCH_JOB_NODE_INDEX") or 0) == 0:
        # AWS Batch itself tells the nodes where the main one is.
        record = {"attempt": count(), "address": os.environ.get(ADDRESS_VARIABLE)}
        storage.save_bytes([(path, io.BytesIO(json.dumps(record).encode()))], overwrite=True)
    else:
        record = await_record(storage, path)
    if record["address"]:
        os.environ["MF_MASTER_ADDR"] = document["env"]["MF_MASTER_ADDR"] = record["address"]
    return int(record["attempt"])


def await_record(storage: Any, path: str, seconds: float = 600) -> dict[str, Any]:
    end = time.monotonic() + seconds
    while not storage.is_file([path])[0]:
        if time.monotonic() > end:
            sys.exit("The control node of the gang has not started in %d s." % seconds)
        time.sleep(1)
    with storage.load_bytes([path]) as found:
        for _, local, _ in found:
            with open(local, encoding="utf-8") as file:
                record: dict[str, Any] = json.load(file)
    return record
