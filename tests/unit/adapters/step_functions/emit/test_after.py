"""What follows a run: hooks and notifications."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec

from metaflow_adapters.step_functions import FlowMachine
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.graph.model import ExitHook


def hooked(manifest: Manifest) -> Manifest:
    hooks = (ExitHook(function="bye", on_success=True), ExitHook(function="also", on_success=True))
    return msgspec.structs.replace(manifest, graph=msgspec.structs.replace(manifest.graph, exit_hooks=hooks))


def test_a_hook_that_fails_does_not_stop_the_others_and_fails_the_machine_in_the_end(
    machine: Callable[..., FlowMachine],
) -> None:
    states = machine("linear", change=hooked).resources.state_machines["linear-after"]["States"]
    for branch in states["success"]["Branches"]:
        (catcher,) = branch["States"][branch["StartAt"]]["Catch"]
        assert catcher["ErrorEquals"] == ["States.ALL"]
        assert branch["States"][catcher["Next"]]["Output"] == {"failed": branch["StartAt"]}
    verdict = states[states["success"]["Next"]]
    assert states[verdict["Choices"][0]["Next"]]["Type"] == "Fail"
    assert states[verdict["Default"]]["Type"] == "Succeed"


def test_the_job_of_a_hook_has_the_tags_of_the_jobs_of_steps(machine: Callable[..., FlowMachine]) -> None:
    made = machine("linear", change=hooked, batch_tags={"team": "ml"})
    # With the tag by which a policy knows the jobs of the deployment from those of others.
    tags = {"team": "ml", "metaflow-state-machine": "linear"}
    texts = json.dumps(made.definition), json.dumps(dict(made.resources.state_machines))
    assert all(f'"Tags": {json.dumps(tags)}' in text for text in texts), texts
