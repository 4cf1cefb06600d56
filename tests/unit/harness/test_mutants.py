"""Mutants are faults that a test could notice."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.harness import mutants

MODULE = '''
@dataclass(frozen=True, slots=True)
class Sized(msgspec.Struct, frozen=True):
    size: int

    def more(self, by, *, often=1, check=True):
        if self.kind is Kind.GANG or by == often:
            return self.size * by + often
        return -by
'''


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The lines of the mutants of a module, as they are then."""
    pytest.importorskip("cosmic_ray")
    (tmp_path / "module.py").write_text(MODULE)
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    monkeypatch.setattr(mutants, "TESTS", [("*.py", [])])
    return {line for one in mutants.all_mutants() for line in one.lines()[2:]}


def test_operators_of_arithmetic_and_comparisons_are_replaced(found: set[str]) -> None:
    assert "  + return self.size + by + often" in found
    assert "  + return self.size * by - often" in found
    assert "  + if self.kind is Kind.GANG or by != often:" in found
    assert "  + if self.kind is not Kind.GANG or by == often:" in found
    assert "  + def more(self, by, *, often=1, check=False):" in found


def test_what_changes_nothing_at_run_time_is_left_out(found: set[str]) -> None:
    assert not [line for line in found if "frozen=False" in line or "slots=False" in line]
    assert not [line for line in found if "def more(self, by, /" in line]
    assert "  + if self.kind == Kind.GANG or by == often:" not in found
    assert "  + if self.kind is Kind.GANG or by is often:" not in found
