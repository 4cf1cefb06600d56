"""What a run of a layer builds beside its tests."""

from __future__ import annotations

import pytest
from tests.harness.full import Run


@pytest.mark.parametrize(
    ("layer", "arguments", "built"),
    [
        ("extended", ["-q", "tests/integration/test_argo_events.py"], {"controllers"}),
        ("extended", ["tests/integration/test_argo_server.py", "tests/integration/test_object_stores.py"],
         {"controllers", "object-stores"}),
        ("extended", ["tests/integration/test_batch.py"], set()),
        ("test", ["tests/integration/test_argo_events.py"], set()),
    ],
)  # fmt: skip
def test_a_part_of_a_layer_builds_beside_its_tests_what_its_files_need(
    layer: str, arguments: list[str], built: set[str]
) -> None:
    assert set(Run(layer, arguments).build_steps()) == built


def test_a_whole_layer_builds_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.harness.full.clusters.chosen", lambda *_: "built")
    assert set(Run("test", []).build_steps()) == {"cluster"}
    assert {"cluster", "controllers", "object-stores"} < set(Run("extended", []).build_steps())
