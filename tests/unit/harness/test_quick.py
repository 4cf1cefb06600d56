"""What a contributor's `make quick` runs."""

from __future__ import annotations

from pathlib import Path

from tests.harness import quick


def test_every_hostile_text_goes_through_every_target_before_each_commit() -> None:
    (fuzz,) = [Path(one) for one in quick.TESTS if "fuzz" in one]
    source = (quick.ROOT / fuzz).read_text()
    assert "pytest.mark.subprocess" not in source
    for target in ("on_airflow", "on_a_worker", "on_argo_workflows", "on_step_functions"):
        assert f"def test_{target}_every_text_is" in source
