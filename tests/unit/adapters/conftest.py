"""A manifest as it would be of a flow on S3, the same on every machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.support.recorded import BATCH, KUBERNETES, on_s3

from metaflow_orchestration.documents.manifest import Manifest

__all__ = ["BATCH", "KUBERNETES"]


@pytest.fixture(name="on_s3")
def _on_s3(recorded: Callable[[str], Manifest]) -> Callable[..., Manifest]:
    def make(flow: str, /, **deployment: Any) -> Manifest:
        return on_s3(recorded(flow), flow, **deployment)

    return make
