"""A folder of 200 flows with an empty cache in Airflow's own DAG processor, under its default timeouts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from tests.support.environment import environment_variable
from tests.support.patience import wait_until

from airflow_provider_metaflow.embedded.airflow import EmbeddedAirflow

pytestmark = [pytest.mark.scheduler, pytest.mark.extended]

FLOWS = 200
FLOW = """from metaflow import FlowSpec, step
from shared_helper import VERSION


class Many{number}Flow(FlowSpec):
    __doc__ = f"Version {{VERSION}} of the helper."

    @step
    def start(self):
        self.version = VERSION
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    Many{number}Flow()
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedAirflow]:
    home = tmp_path_factory.mktemp("many")
    folder = home / "dags/flows"
    folder.mkdir(parents=True)
    (folder / "shared_helper.py").write_text("VERSION = 1\n")
    for number in range(FLOWS):
        (folder / f"many_{number:03}.py").write_text(FLOW.format(number=number))
    (home / "dags/team.py").write_text(
        'from airflow_provider_metaflow import load_flow_dags\nload_flow_dags(globals(), "flows/")\n'
    )
    settings = {"DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "10"}
    with (
        environment_variable("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(home)),
        EmbeddedAirflow(home=home, settings=settings) as server,
    ):
        yield server


def active(server: EmbeddedAirflow) -> dict[str, str]:
    """Return the descriptions of the DAGs that are not stale, by id."""
    while True:
        found: dict[str, str] = {}
        for offset in itertools.count(0, 50):
            page = server.client.request("GET", "/dags", params={"limit": 50, "offset": offset, "order_by": "dag_id"})
            found.update({dag["dag_id"]: dag["description"] for dag in page["dags"]})
            if offset + 50 >= page["total_entries"]:
                break
        # A DAG that appears between two pages moves those behind it: some are read twice, or not at all.
        if len(found) == page["total_entries"]:
            return found


def test_all_dags_of_a_cold_cache_appear_and_none_goes_stale_on_the_way(many: EmbeddedAirflow) -> None:
    seen: set[str] = set()

    def all_there() -> bool:
        now = set(active(many))
        assert seen <= now, f"went stale: {sorted(seen - now)[:5]}"
        seen.update(now)
        return len(now) == FLOWS

    wait_until(all_there, timeout=450, pause=3)


def test_no_dag_goes_stale_while_all_flows_of_the_folder_are_compiled_again(many: EmbeddedAirflow) -> None:
    (many.home / "dags/flows/shared_helper.py").write_text("VERSION = 2\n")

    def all_new() -> bool:
        now = active(many)
        assert len(now) == FLOWS
        return set(now.values()) == {"Version 2 of the helper."}

    wait_until(all_new, timeout=450, pause=3)
    # One for each deployment at most, however often they were parsed meanwhile.
    for dag_id in ("Many0Flow", "Many99Flow", f"Many{FLOWS - 1}Flow"):
        assert many.client.request("GET", f"/dags/{dag_id}/dagVersions")["total_entries"] <= 2
    assert many.client.request("GET", "/importErrors")["total_entries"] == 0
