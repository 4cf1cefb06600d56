"""What the AWS server and the tests beside it share: who may do what, the keys of principals, a rate that is limited.

The tests write files, the server reads them again when they have changed; so a test may grant and revoke at any time.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .authority import Authority, Principal
from .enforcement import ACCOUNT
from .quotas import Throttle

AUTHORITY, THROTTLE = "authority.json", "throttle-submissions"
"""Names of the files, in the folder of the server."""

ADMINISTRATOR = f"arn:aws:iam::{ACCOUNT}:user/administrator"

EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["*"], "Resource": "*"}]}


@functools.cache
def key_of(arn: str) -> str:
    """Return the id of a principal's access key.

    :param arn: of a user or role.
    """
    return f"AKIA{hashlib.sha256(arn.encode()).hexdigest()[:16].upper()}"


class SharedAuthority(Authority):
    """The principals of an account in a file; each look-up reads the file again if it has changed.

    :param file: where they are.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file
        self._read: tuple[int, int] | None = None

    def __getitem__(self, arn: str) -> Principal:
        self._refresh()
        return super().__getitem__(arn)

    def owner_of(self, key: str) -> str | None:
        """Return whose access key it is, None if nobody's."""
        self._refresh()
        return next((arn for arn in self.principals if key_of(arn) == key), None)

    def add(self, arn: str, policies: Iterable[dict[str, Any]], trust: dict[str, Any] | None = None) -> None:
        """Give a principal its policies, in place of those that it had, and let the server know."""
        super().add(arn, policies, trust)
        new = self._file.with_suffix(".new")
        self.save(new)
        # The server never sees half of it.
        new.replace(self._file)

    def _refresh(self) -> None:
        if not self._file.exists():
            return
        found = self._file.stat()
        state = (found.st_ino, found.st_mtime_ns)
        if state != self._read:
            self.principals = Authority.load(self._file).principals
            self._read = state


class SharedThrottle(Throttle):
    """Limits the submissions of a second to the number in a file; without the file it takes any.

    :param file: where the number is.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def takes(self) -> bool:
        if not self._file.exists():
            return True
        self._per_second = int(self._file.read_text())
        return super().takes()
