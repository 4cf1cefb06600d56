"""S3's conditional writes, which are atomic (S3 User Guide, "Prevent object overwrites").

moto looks for the object and then writes it, so that two writers with ``If-None-Match: *`` may both succeed.
"""

from __future__ import annotations

import threading
from typing import Any

_WRITING = threading.Lock()


def install() -> None:
    """Let one write follow the other."""
    from moto.s3.responses import S3Response

    original = S3Response.put_object
    if getattr(original, "is_atomic", False):
        return

    def put_object(self: Any) -> Any:
        with _WRITING:
            return original(self)

    put_object.is_atomic = True  # type: ignore[attr-defined]
    S3Response.put_object = put_object  # type: ignore[method-assign]
