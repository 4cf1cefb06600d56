"""What other tests take for the compiled form of a flow is what its flow file compiles to."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from tests.support.recorded import DECORATED, SHAPES, on_s3, read_recorded

from metaflow_orchestration.documents.manifest import Manifest


@pytest.mark.subprocess
@pytest.mark.parametrize("name", DECORATED)
def test_a_decorated_flow_compiles_to_its_recorded_manifest(
    name: str, compiled_on_s3: Callable[[str], Manifest]
) -> None:
    made = compiled_on_s3(name)
    assert msgspec.to_builtins(made) == msgspec.to_builtins(read_recorded(name))


@pytest.mark.parametrize("name", SHAPES)
def test_a_plain_flow_compiles_to_its_recorded_manifest(name: str, compiled: Callable[..., Manifest]) -> None:
    made = on_s3(compiled(name), name)
    assert msgspec.to_builtins(made) == msgspec.to_builtins(read_recorded(name))
