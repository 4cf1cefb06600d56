"""What `tests/flows/containers/decorated.py` leaves behind, wherever its steps run."""

from __future__ import annotations

from .results import Results


def assert_decorated(results: Results) -> None:
    """See that retry, catch, environment and secrets have done what they do in a local run."""
    found = results["meet"][((), ())]
    assert found["attempt"] == 2
    assert "never" in found["problems"][0]
    # A step that was killed has no exception of its own to tell.
    assert found["problems"][1] != "None"
    assert (found["colour"], found["length"]) == ("grün $HOME {{workflow.name}} $(HOME)", 4)
