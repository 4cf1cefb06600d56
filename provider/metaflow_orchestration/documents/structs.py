"""Documents that cross processes, as msgspec structs that any thread may read."""

from __future__ import annotations

from typing import TypeVar

import msgspec

_Type = TypeVar("_Type", bound=type)


def built(document: _Type) -> _Type:
    """Build all that msgspec needs to read a document, when its class is made.

    msgspec builds it when a document is read first, and keeps it on the class before it is complete: a second thread
    that reads one meanwhile ends the process with a segmentation fault (msgspec 0.22, ``json_decode_struct_map_inner``;
    seen in `airflow create`, which looks at the manifests of a folder in several threads).

    :param document: the class; use this as a decorator.
    """
    msgspec.json.Decoder(document)
    return document
