"""What the import of a flow read beside its own folder, as :mod:`~.recorder` has noted it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from metaflow_orchestration.documents.structs import built


@built
class Reads(msgspec.Struct, frozen=True, kw_only=True):
    """Files and variables, with digests of what was in them.

    :param files: SHA-256 of each file's content.
    :param variables: SHA-256 of each variable's value; None for one that was not set.
    """

    files: dict[str, str]
    variables: dict[str, str | None]

    def are_same(self, environment: Mapping[str, str]) -> bool:
        """Return whether all of it is as it was.

        :param environment: the variables now.
        """
        for name, digest in self.variables.items():
            value = environment.get(name)
            if (None if value is None else digest_of(value)) != digest:
                return False
        return all(has_digest(name, digest) for name, digest in self.files.items())


def read_reads(file: Path) -> Reads | None:
    """Return what was noted; None if that cannot be read.

    :param file: where it stands.
    """
    try:
        return msgspec.json.decode(file.read_bytes(), type=Reads)
    except (OSError, msgspec.DecodeError):
        return None


def digest_of(value: str) -> str:
    """Return what is kept of a variable's value.

    :param value: the value, which may be a secret.
    """
    return hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest()


def has_digest(name: str, digest: str) -> bool:
    """Return whether a file is there and has this content.

    :param name: the file.
    :param digest: SHA-256 of its content.
    """
    try:
        return hashlib.sha256(Path(name).read_bytes()).hexdigest() == digest
    except OSError:
        return False
