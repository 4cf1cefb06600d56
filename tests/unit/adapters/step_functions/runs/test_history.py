"""Logs of a run: of each job that it has started, whichever execution started it."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.aws_account import Account
from tests.unit.adapters.step_functions.runs.test_runs_on_aws import telling

from metaflow_adapters.step_functions import FlowMachine
from metaflow_adapters.step_functions.runs.runs import SfnRuns

There = Callable[..., FlowMachine]


def test_logs_hold_every_step_of_a_distributed_map_and_every_node_of_a_gang(account: Account, there: There) -> None:
    made = there("parallel")
    account.task = telling(made)
    found = account.run(made)
    assert found["status"] == "SUCCEEDED", found
    runs = SfnRuns(account.aws(), made.name, account.flow)
    run_id = f"sfn-{found['name']}"
    lines = list(runs.logs(run_id))
    ran = [one.place.step for one in account.ran if one.place]
    assert sorted(name for name, _ in lines) == sorted(ran)
    assert {"body", "gang", "gang_join"} <= set(ran)
    assert ran.count("gang") == 4  # two nodes in each of two splits
    assert list(runs.logs(run_id, "gang")) == [("gang", "ParallelFlow-gang ended with 0")] * 4
