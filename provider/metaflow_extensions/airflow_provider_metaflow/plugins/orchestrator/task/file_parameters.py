"""Values of ``IncludeFile`` parameters: the last check before Metaflow sees them.

Metaflow takes any text for a path on the machine that runs ``init``, or for a descriptor of an object that it then
reads with the rights of the task (``metaflow.includefile.FilePathClass``). Whoever may only start runs must not read
files of a worker or objects of others by that. So Metaflow gets descriptors only, and only of three origins: the
default of deploy time, the content that the value itself holds, and a file that a client has uploaded to the folder of
uploads of this flow in its own datastore.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
from typing import TYPE_CHECKING, Any, TypedDict, cast

if TYPE_CHECKING:
    from .task_documents import FileFacts, InitRequest

FOLDER = "data"
"""Folder of uploads below the root of a datastore (``metaflow.metaflow_config.DATATOOLS_SUFFIX``)."""

_TYPES = ("uploader-v1", "uploader-v2", "external")
"""Types of descriptors that Metaflow reads (``metaflow.includefile.UPLOADERS``)."""

_NAME = re.compile(r"[0-9a-f]{40}")
_PATH = re.compile(
    r"""
    [a-z][a-z0-9+.-]*://\S*             # an address
    | ([/~]|\.{1,2}[/\\]|[a-z]:[/\\])\S.*  # an absolute or relative path
    | [^\s/\\]+([/\\][^\s/\\]+)+        # folders
    | [^\s/\\]*[^\s/\\.]\.[a-z][a-z0-9]{0,9}  # a file with a suffix
    | [/~]
    """,
    re.VERBOSE | re.IGNORECASE,
)


Descriptor = TypedDict(
    "Descriptor",
    {
        "note": str,
        "type": str,
        "sub-type": str,
        "url": str,
        "size": int,
        "is_text": bool,
        "encoding": str,
    },
    total=False,
)
"""How Metaflow stores an included file (``metaflow.includefile``, UploaderV2). Of a value that a run was given no key
is certain, and no type of what stands there."""


class RefusedFileError(ValueError):
    """A value that may not be used as a file.

    :param flow: name of the flow.
    :param parameter: name of the parameter.
    :param problem: what is wrong with the value.
    """

    def __init__(self, flow: str, parameter: str, problem: str) -> None:
        self.message = "the file parameter %r %s" % (parameter, problem)
        self.hint = (
            "Give the content of the file (a single word or line of it ends with a newline), or let the command line "
            "upload the file: `--%s FILE` of `trigger`." % parameter
        )
        super().__init__("flow %s: %s %s" % (flow, self.message, self.hint))


def checked_arguments(init: InitRequest, flow: str, storage: Any) -> list[str]:
    """Return the arguments of ``init`` with a descriptor in place of each value of a file parameter.

    :param init: ``arguments`` of ``init``, and ``files``: ``default``, ``is_text`` and ``encoding`` by parameter.
    :param flow: name of the flow.
    :param storage: storage of the flow's datastore.
    :raises RefusedFileError: if a value is neither content, nor the default, nor a file that was uploaded for the flow.
    """
    files = init.get("files") or {}
    arguments = []
    for one in init["arguments"]:
        name, equals, value = one.removeprefix("--").partition("=")
        if equals and one.startswith("--") and name in files:
            arguments.append("--%s=%s" % (name, file_value(flow, name, value, files[name], storage)))
        else:
            arguments.append(one)
    return arguments


def file_value(flow: str, name: str, value: str, facts: FileFacts, storage: Any) -> str:
    """Return the descriptor that Metaflow gets for a value.

    :param flow: name of the flow.
    :param name: name of the parameter.
    :param value: what the run was given.
    :param facts: ``default``, ``is_text`` and ``encoding`` of the parameter.
    :param storage: storage of the flow's datastore.
    :raises RefusedFileError: see :func:`checked_arguments`.
    """
    if facts.get("default") is not None and value == facts["default"]:
        return value
    is_text, encoding = facts.get("is_text", True), facts.get("encoding") or "utf-8"
    descriptor = _descriptor(value)
    if descriptor is not None:
        size = descriptor.get("size")
        if not is_uploaded(descriptor, flow, storage) or not isinstance(size, int):
            raise RefusedFileError(flow, name, "refers to a file that was not uploaded for this flow.")
        # Of what the run was given no more than the place and the size.
        return json.dumps(_uploaded(descriptor["url"], size, is_text, encoding))
    if _PATH.fullmatch(value):
        raise RefusedFileError(flow, name, "was given a path, %s; a run takes no path." % ascii(value[:80]))
    try:
        content = value.encode(encoding if is_text else "utf-8")
    except (UnicodeEncodeError, LookupError):
        raise RefusedFileError(flow, name, "holds characters that its encoding %s lacks." % encoding) from None
    return json.dumps(upload(content, flow, storage, is_text, encoding))


def upload(content: bytes, flow: str, storage: Any, is_text: bool, encoding: str | None) -> Descriptor:
    """Put the content of a file into the flow's folder of uploads; return its descriptor.

    The layout is that of Metaflow's own uploader (``metaflow.includefile.UploaderV2``), but always below the root of
    the flow's datastore.

    :param content: the content.
    :param flow: name of the flow.
    :param storage: storage of the flow's datastore.
    :param is_text: whether steps see it as text.
    :param encoding: encoding of the text.
    """
    digest = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    path = storage.path_join(FOLDER, flow, digest)
    storage.save_bytes([(path, io.BytesIO(gzip.compress(content, 3)))], overwrite=False)
    return _uploaded(_folder(flow, storage) + digest, len(content), is_text, encoding or "utf-8")


def is_uploaded(descriptor: Descriptor, flow: str, storage: Any) -> bool:
    """Tell whether a descriptor is of a file in the flow's folder of uploads.

    :param descriptor: the descriptor.
    :param flow: name of the flow.
    :param storage: storage of the flow's datastore.
    """
    url, folder = descriptor.get("url"), _folder(flow, storage)
    return (
        descriptor.get("type") == "uploader-v2"
        and descriptor.get("sub-type") == "uploaded"
        and isinstance(url, str)
        and url.startswith(folder)
        # Named by its content: nothing else in the folder, and nothing above or beside it.
        and _NAME.fullmatch(url[len(folder) :]) is not None
    )


def _folder(flow: str, storage: Any) -> str:
    uri: str = storage.full_uri(storage.path_join(FOLDER, flow))
    # Roots of files and of Azure come without it.
    return ("" if "://" in uri else "%s://" % storage.TYPE) + uri.rstrip("/") + "/"


def _uploaded(url: str, size: int, is_text: bool, encoding: str) -> Descriptor:
    return {
        "note": "Internal representation of IncludeFile",
        "type": "uploader-v2",
        "sub-type": "uploaded",
        "url": url,
        "size": size,
        "is_text": is_text,
        "encoding": encoding,
    }


def _descriptor(value: str) -> Descriptor | None:
    """Return what Metaflow would take for a descriptor: a JSON object, which may be the text of a JSON string."""
    found: Any = value
    for _ in range(2):
        try:
            found = json.loads(found)
        except (ValueError, TypeError, RecursionError):
            return None
        if isinstance(found, dict):
            return cast("Descriptor", found) if found.get("type") in _TYPES else None
        if not isinstance(found, str):
            return None
    return None
