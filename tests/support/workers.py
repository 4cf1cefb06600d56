"""Which tests run on one worker: those that share an expensive fixture.

By file, since the scheduler of xdist knows tests by their names only; its own marks do not work with pytest 9.2.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from xdist.scheduler import LoadScopeScheduling

GROUPS = {
    "cluster": ("argo", "environments", "kubernetes", "object_stores", "random_graphs"),
    "step_functions": ("step_functions", "aws"),
    "airflow": ("batch", "blocks", "events", "examples", "features", "habits", "manage", "shapes", "ui"),
}
"""What files of tests are about, by the largest fixture that they share."""

_FOLDERS = ("tests/integration/", "tests/unit/engines/")


def group_of(nodeid: str) -> str:
    """Return the group of a test: the fixture that it needs, or its file."""
    file = nodeid.partition("::")[0]
    name = file.rpartition("/")[2].removeprefix("test_").removesuffix(".py")
    for group, starts in GROUPS.items():
        if file.startswith(_FOLDERS) and name.startswith(starts):
            return group
    return file


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Whole groups to each worker, in the order of their names."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def check_groups(items: Iterable[pytest.Item]) -> None:
    """See that each test is in the group of what it needs; two workers cannot both have the cluster.

    :raises pytest.UsageError: if one is not.
    """
    for item in items:
        needed = getattr(item, "fixturenames", ())
        wanted = next((group for group in GROUPS if group in needed), None)
        if wanted and group_of(item.nodeid) != wanted:
            raise pytest.UsageError(f"{item.nodeid} needs `{wanted}`: name its file in tests/support/workers.py")
