"""What tasks have written to an object store, as a ``Store`` of ``questions.py``.

Part of ``process.py``: standard library and Metaflow only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from .index import TooLargeError
from .local_files import json_of

_MISSING = ("NoSuchKey", "404", "NotFound")
_MAX_PAGES = 5

_clients: list[Any] = []
"""The client of S3 of this process: making one takes as long as many requests."""


class RemoteStore:
    """A ``Store`` over one of Metaflow's object stores.

    :param storage: Metaflow's ``DataStoreStorage``.
    """

    def __init__(self, storage: Any) -> None:
        self._storage = storage

    def document(self, path: Sequence[str], limit: int) -> Any:
        """Return a JSON document; None if there is none."""
        return json_of(self.text(path, limit))

    def names(self, path: Sequence[str]) -> list[str]:
        """Return the names of the objects right below a path."""
        found = self._storage.list_content(["/".join(path)])
        return sorted(str(one.path).rpartition("/")[2] for one in found if one.is_file)

    def text(self, path: Sequence[str], limit: int) -> str | None:
        """Return a text; None if there is none. Its size is asked for before it is loaded."""
        name = "/".join(path)
        size = self._storage.size_file(name)
        if size is None:
            return None
        if size > limit:
            raise TooLargeError(size)
        with self._storage.load_bytes([name]) as results:
            for _, local, _ in results:
                if local is not None:
                    return Path(local).read_text(encoding="utf-8", errors="replace")
        return None


class S3Store(RemoteStore):
    """The same over S3, with one request per document and listing.

    Metaflow's own interface starts a Python process for each listing, which is for thousands of large objects. The
    client, and with it credentials, endpoint and retries, is Metaflow's.

    :param storage: Metaflow's ``S3Storage``.
    """

    def __init__(self, storage: Any) -> None:
        super().__init__(storage)
        _clients[:] = _clients or [storage.s3_client]
        self._client = _clients[0]
        self._bucket, _, self._prefix = str(storage.datastore_root).partition("://")[2].partition("/")

    def names(self, path: Sequence[str]) -> list[str]:
        """Return the names of the objects right below a path."""
        folder = self._key(path) + "/"
        keys = [key for page in self._pages(folder, Delimiter="/") for key in page]
        return sorted(name for name in keys if name)

    def below(self, path: Sequence[str]) -> list[str] | None:
        """Return the paths of all objects below a path, from there; None if there are thousands."""
        found: list[str] = []
        for number, page in enumerate(self._pages(self._key(path) + "/")):
            if number == _MAX_PAGES:
                return None
            found += page
        return found

    def _pages(self, folder: str, **options: str) -> Iterator[list[str]]:
        pages = self._client.client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=folder, **options
        )
        for page in pages:
            yield [str(one["Key"]).removeprefix(folder) for one in page.get("Contents") or ()]

    def text(self, path: Sequence[str], limit: int) -> str | None:
        """Return a text; None if there is none. Its size is looked at before its body is read."""
        try:
            found = self._client.client.get_object(Bucket=self._bucket, Key=self._key(path))
        except self._client.error as error:
            if error.response.get("Error", {}).get("Code") in _MISSING:
                return None
            raise
        with closing(found["Body"]) as body:
            if found["ContentLength"] > limit:
                raise TooLargeError(found["ContentLength"])
            return str(body.read().decode("utf-8", "replace"))

    def _key(self, path: Sequence[str]) -> str:
        return "/".join([*filter(None, [self._prefix.rstrip("/")]), *path])
