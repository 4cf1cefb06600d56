"""What a run costs, by formulas that the integration tests measure for one flow, too."""

from __future__ import annotations

from collections.abc import Callable

from metaflow_adapters.step_functions import FlowMachine
from metaflow_adapters.step_functions.limits import cost_of, report

Make = Callable[..., FlowMachine]


def test_a_linear_flow_costs_a_transition_and_six_events_a_step(machine: Make) -> None:
    made = machine("linear")
    cost = cost_of(made.states, splits=1)
    assert (cost.transitions, cost.events) == (3, 20)


def test_an_array_costs_the_same_however_wide_it_is(machine: Make) -> None:
    made = machine("switch_in_foreach")
    nested = machine("nested_foreach")
    for one, few, many in ((made, 2, 200), (nested, 2, 200)):
        low, high = (cost_of(one.states, splits=n) for n in (few, many))
        # Maps are distributed, so only their children's transitions grow.
        assert low.events == high.events
        assert low.transitions < high.transitions


def test_the_report_warns_of_a_history_that_would_fill(machine: Make) -> None:
    lines = list(report(machine("switch_in_foreach", distributed=False), splits=5000))
    assert any(line.startswith("WARNING: with 5000 splits a history has over 25,000 events") for line in lines)
    lines = list(report(machine("switch_in_foreach"), splits=5000))
    assert not any("WARNING" in line for line in lines)
    assert any("USD of state transitions" in line for line in lines)
    assert any("10,000 children" in line for line in report(machine("foreach"), splits=20_000))
