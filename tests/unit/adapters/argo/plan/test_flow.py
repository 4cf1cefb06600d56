"""A run of the objects is a run of the flow: each shape is played as Argo's controller would run it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.support.argo_play import play_argo
from tests.support.plays import assert_same_tasks, played
from tests.support.recorded import SHAPES

from metaflow_adapters.argo import compile_flow
from metaflow_orchestration.documents.manifest import Manifest


@pytest.mark.parametrize("gang", ["jobset", "job"])
@pytest.mark.parametrize("shape", SHAPES)
def test_each_task_of_a_run_runs_once_and_after_those_that_lead_to_it(
    shape: str, gang: str, on_s3: Callable[..., Manifest]
) -> None:
    manifest = on_s3(shape)
    documents = compile_flow(manifest, gang=gang).to_dicts()
    for seed in range(8):
        play = played(manifest.graph, seed)
        assert_same_tasks(play, play_argo(documents, play))
