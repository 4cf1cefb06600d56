"""Defaults of ``IncludeFile`` parameters where a flow is compiled and not deployed. Imports Metaflow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1
from pathlib import Path
from typing import Any


@contextmanager
def without_uploads() -> Iterator[None]:
    """Let Metaflow say where it would upload the default of an ``IncludeFile``, and upload nothing.

    Metaflow uploads it whenever a default is read for a deployment (``metaflow.includefile``).
    """
    from metaflow import includefile

    uploader = includefile.CURRENT_UPLOADER

    class Described(uploader):  # type: ignore[misc, valid-type]
        @classmethod
        def store(
            cls, flow_name: str, path: str, is_text: bool, encoding: str, handler: Any, echo: Any
        ) -> dict[str, Any]:
            content = Path(path).read_bytes()
            digest = sha1(content, usedforsecurity=False).hexdigest()
            url = f"{_root(handler, echo)}/{flow_name}/{digest}"
            described: dict[str, Any] = cls.encode_url(
                "uploaded", url, is_text=is_text, encoding=encoding, size=len(content)
            )
            return described

    includefile.CURRENT_UPLOADER = Described
    try:
        yield
    finally:
        includefile.CURRENT_UPLOADER = uploader


def _root(handler: Any, echo: Any) -> str:
    try:
        return str(handler.get_root_from_config(echo, False)).rstrip("/")
    except TypeError:
        # Metaflow joins the folder of a local datastore that does not exist yet, and is not to be made here.
        return ""
