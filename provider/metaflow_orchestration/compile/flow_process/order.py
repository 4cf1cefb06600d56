"""What the compiler asks of the process that runs a flow (:mod:`~.watched`)."""

from __future__ import annotations

import msgspec

from metaflow_orchestration.documents.structs import built


@built
class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A flow to compile.

    :param target: file of the manifest, which ``create`` writes.
    :param reads: file for what the import of the flow has read.
    :param import_paths: further folders that the flow can import from.
    :param key: what the flow's files and options hash to, the same on all machines; empty if the result of another
        machine is not to be fetched from the datastore.
    :param on_worker: whether a task of the DAG is run here: it uses what the DAG processor has compiled, whoever that
        was, and whatever differs here.
    """

    target: str
    reads: str
    import_paths: tuple[str, ...] = ()
    key: str = ""
    on_worker: bool = False
