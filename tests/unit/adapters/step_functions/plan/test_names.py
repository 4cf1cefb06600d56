from __future__ import annotations

import pytest
from metaflow.plugins.aws.step_functions.event_bridge_client import format as stock_rule

from metaflow_adapters.step_functions.plan.names import (
    MACHINE_NAME,
    helper_name,
    machine_helper_name,
    prefixed,
    project_name,
)
from metaflow_orchestration.exceptions import InvalidOptionError


def test_long_names_of_rules_are_cut_as_metaflow_cuts_them() -> None:
    for name in ("short", "x" * 64, "x" * 65, "y" * 80):
        assert helper_name(name) == stock_rule(name)


def test_names_of_helpers_fit_and_differ() -> None:
    names = ["x" * 80, "x" * 79 + "y", "Flow"]
    made = [helper_name(name, what) for name in names for what in ("", "event-0", "after")]
    assert len(set(made)) == len(made)
    assert max(map(len, made)) <= 64
    machines = [machine_helper_name(name, what) for name in names for what in ("events", "after")]
    assert len(set(machines)) == len(machines)
    assert max(map(len, machines)) <= 80


def test_a_projects_name_is_cut_readably() -> None:
    full = "project.user.somebody@example.org.AVeryLongFlowNameThatGoesOnAndOnAndOnForAWhile"
    made = project_name(full)
    assert made.startswith("project.user.somebodyexample.org.AVeryLong")
    assert len(made) <= 80
    assert project_name("p.prod.Flow") == "p.prod.Flow"


def test_a_prefix_is_set_once() -> None:
    assert prefixed("Flow", "team") == "team_Flow"
    assert prefixed("team_Flow", "team") == "team_Flow"
    assert prefixed("Flow", None) == "Flow"


@pytest.mark.parametrize(("name", "told"), [("a b", "cannot be the name"), ("x" * 81, "81 characters"), ("", "cannot")])
def test_a_name_that_aws_refuses_is_refused_first(name: str, told: str) -> None:
    with pytest.raises(InvalidOptionError, match=told):
        MACHINE_NAME.check(name, "Flow")
