"""Which tests run on one worker, and in what order.

By file, since the scheduler of xdist knows tests by their names only; its own marks do not work with pytest 9.2.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.harness import builds, figures
from tests.support.kubernetes import OWN

_CLUSTER = ("argo", "environments", "kubernetes", "object_stores", "random_graphs")
"""What files of integration tests are about that need the cluster, of which a machine has one."""

_FOLDER = "tests/integration/"


def group_of(nodeid: str) -> str:
    """Return the group of a test: the cluster, or its file. Each worker starts an Airflow and an AWS of its own."""
    file = nodeid.partition("::")[0]
    name = file.rpartition("/")[2].removeprefix("test_").removesuffix(".py")
    return "cluster" if file.startswith(_FOLDER) and name.startswith(_CLUSTER) else file


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Whole groups to each worker, those first that took longest; the cluster's when its build has ended."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)

    def _assign_work_unit(self, node: object) -> None:
        took = figures.durations()
        # The scheduler of xdist takes the first.
        self.workqueue.move_to_end(next_group(list(self.workqueue), took), last=False)
        super()._assign_work_unit(node)


_UNKNOWN_SECONDS = {"cluster": 3000.0, _FOLDER: 300.0}
"""How long a group is taken to last that was never measured, by the beginning of its name; others take moments."""


def next_group(groups: list[str], took: dict[str, float]) -> str:
    """Return the group to begin with: the longest; while the cluster is being built, the shortest of the others.

    The cluster's tests take as long as all others together: whoever waits for them must not be in a long group then.
    """

    def seconds(group: str) -> float:
        unknown = next((long for name, long in _UNKNOWN_SECONDS.items() if group.startswith(name)), 1.0)
        return took.get(group, unknown)

    others = [group for group in groups if group != "cluster"]
    if others and len(others) < len(groups) and not builds.ready("cluster"):
        return min(others, key=seconds)
    return max(groups, key=seconds)


def check_groups(items: Iterable[pytest.Item]) -> None:
    """See that each test that needs the cluster is in its group; two workers cannot both have it.

    :raises pytest.UsageError: if one is not.
    """
    for item in items:
        if "cluster" in getattr(item, "fixturenames", ()) and group_of(item.nodeid) != "cluster":
            raise pytest.UsageError(f"{item.nodeid} needs the cluster: name its file in tests/support/workers.py")


def leave_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what this machine's cluster cannot run: pytest counts that as not run, never as passed.

    As are the tests that need a real AWS account, unless `TEST_AWS=1` says that there is one.
    """
    from .real_aws import ASKED

    without = config.getoption("--without-kubernetes")
    left = [
        item
        for item in items
        if (OWN and item.get_closest_marker("built_cluster"))
        or (not ASKED and item.get_closest_marker("aws_account"))
        or (without and "cluster" in getattr(item, "fixturenames", ()))
    ]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]
