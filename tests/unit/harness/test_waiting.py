"""How tests wait."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.object_store import object_store
from tests.support.patience import wait_until

TESTS = Path(__file__).parents[2]
MOST_SECONDS = 5


def sleeps(source: str) -> Iterator[tuple[int, object]]:
    """Yield line and seconds of each call of `sleep` with a literal."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "sleep":
            (seconds,) = node.args
            if isinstance(seconds, ast.Constant):
                yield node.lineno, seconds.value


def test_no_test_sleeps_for_more_than_five_seconds() -> None:
    # A step of a flow that sleeps is one that hangs; nobody waits for it.
    files = [file for file in TESTS.rglob("*.py") if "flows" not in file.relative_to(TESTS).parts]
    assert len(files) > 100
    found = [(str(file), *one) for file in files for one in sleeps(file.read_text())]
    assert len(found) > 10
    assert [one for one in found if one[2] > MOST_SECONDS] == []


def test_what_does_not_come_true_in_time_is_told() -> None:
    with pytest.raises(AssertionError, match="did not come true in time"):
        wait_until(lambda: False, timeout=0.05, pause=0.01)


@pytest.mark.subprocess
def test_an_outage_of_the_object_store_begins_when_somebody_has_asked_in_vain(tmp_path: Path) -> None:
    import threading

    import httpx

    with object_store("127.0.0.1", tmp_path / "log") as store:
        answers: list[int] = []
        asking = threading.Thread(target=lambda: answers.append(httpx.get(f"{store.url}/moto-api/").status_code))
        timer = threading.Timer(0.5, asking.start)
        timer.start()
        with store.outage():
            assert asking.is_alive()
            assert answers == []
        asking.join(30)
        assert answers == [200]
