"""What Metaflow's own core tests ask of a run, with its own processes, by Airflow's own task runner."""

from __future__ import annotations

import base64
import re
import sys
from pathlib import Path
from typing import Any

import metaflow
import pytest
from metaflow.cards import get_cards
from tests.support.environment import environment_variable
from tests.support.task_runs import FlowRun

from airflow_provider_metaflow import MetaflowDag
from metaflow_orchestration.compile.compiler import CompileOptions, load_manifest
from metaflow_orchestration.documents.manifest import encode_manifest
from metaflow_orchestration.graph.identity import airflow_run_id

pytestmark = pytest.mark.subprocess

FLOW = """
from metaflow import FlowSpec, card, catch, current, retry, step
from metaflow.cards import Markdown
from metaflow.exception import MetaflowException


class TogetherFlow(FlowSpec):
    @step
    def start(self):
        self.next(self.left, self.right)

    @catch(var="problem", print_exception=False)
    @retry(times=1, minutes_between_retries=0)
    @step
    def left(self):
        self.same = "left"
        self.agreed = 1
        raise ValueError("of attempt %d" % current.retry_count)
        self.next(self.meet)

    @card(type="blank", id="first")
    @card(type="blank", id="second")
    @step
    def right(self):
        self.same = "right"
        self.agreed = 1
        self.marked = sorted(current.tags)
        current.card["first"].append(Markdown("# what the first says"))
        current.card["second"].append(Markdown("# what the second says"))
        self.next(self.third)

    @step
    def third(self):
        self.next(self.fourth, self.fifth)

    @step
    def fourth(self):
        self.mine = "fourth"
        self.shared = [1, 2]
        self.next(self.inner)

    @step
    def fifth(self):
        self.mine = "fifth"
        self.shared = [1, 2]
        self.next(self.inner)

    @step
    def inner(self, inputs):
        try:
            self.merge_artifacts(inputs)
        except MetaflowException as error:
            self.unmerged = type(error).__name__, list(error.artifact_names)
        self.mine = "both"
        self.merge_artifacts(inputs)
        self.next(self.meet)

    @step
    def meet(self, inputs):
        self.merge_artifacts(inputs, include=["problem", "unmerged", "mine", "shared", "marked"])
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    TogetherFlow()
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return Metaflow's run of the flow."""
    root = tmp_path_factory.mktemp("together")
    file = root / "together.py"
    file.write_text(FLOW)
    with environment_variable("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(root)):
        manifest = load_manifest(
            file, CompileOptions(create=("--tag", "nightly"), python=sys.executable), root / "cache"
        )
    path = Path(root / "together.metaflow.json")
    path.write_bytes(encode_manifest(manifest))
    run = FlowRun(MetaflowDag(path))
    run.run_all("start")
    assert [run.run("left").state for _ in range(2)] == ["up_for_retry", "success"]
    run.run_all("right", "third", "fourth", "fifth", "inner", "meet", "end")
    metaflow.metadata(f"local@{root}")
    metaflow.namespace(None)
    return metaflow.Run(f"TogetherFlow/{airflow_run_id('TogetherFlow', 'manual__1')}")


@pytest.mark.extended
def test_two_parallel_branches_that_set_one_name_to_different_values_are_a_conflict(ended: Any) -> None:
    """Their task ids were equal, and so were, for Metaflow, their artifacts of one name."""
    assert ended.data.unmerged == ("UnhandledInMergeArtifactsException", ["mine"])
    assert (ended.data.mine, ended.data.shared) == ("both", [1, 2])


def test_a_caught_task_that_was_retried_has_the_tags_of_its_run_and_says_which_attempts_it_had(ended: Any) -> None:
    task, sound = ended["left"].task, ended["right"].task
    assert (task.finished, task.exception) == (True, None)
    assert "of attempt 1" in str(ended.data.problem)
    assert task.user_tags == ended.user_tags == frozenset(["nightly"])
    assert {one.partition(":")[0] for one in task.system_tags} == {one.partition(":")[0] for one in sound.system_tags}
    assert sorted(one.value for one in task.metadata if one.type == "attempt") == ["0", "1"]
    assert "nightly" in ended.data.marked


def test_each_of_several_cards_of_a_step_is_there_with_its_own_content(ended: Any) -> None:
    found = {}
    for card in get_cards(ended["right"].task):
        blobs = re.findall(r'"([A-Za-z0-9+/]{80,}={0,2})"', card.get())
        decoded = b"".join(base64.b64decode(blob) for blob in blobs if len(blob) % 4 == 0)
        found[card.id] = {name for name in (b"first", b"second") if b"what the %s says" % name in decoded}
    assert found == {"first": {b"first"}, "second": {b"second"}}
