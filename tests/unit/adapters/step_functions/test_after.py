"""What follows a run: hooks and notifications."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec

from airflow_provider_metaflow.flow.manifest import Manifest
from airflow_provider_metaflow.graph.model import ExitHook
from metaflow_adapters.step_functions import FlowMachine


def test_the_job_of_a_hook_has_the_tags_of_the_jobs_of_steps(machine: Callable[..., FlowMachine]) -> None:
    def hooked(manifest: Manifest) -> Manifest:
        hooks = (ExitHook(function="bye", on_success=True),)
        return msgspec.structs.replace(manifest, graph=msgspec.structs.replace(manifest.graph, exit_hooks=hooks))

    made = machine("linear", change=hooked, batch_tags={"team": "ml"})
    texts = json.dumps(made.definition), json.dumps(dict(made.resources.state_machines))
    assert all('"Tags": {"team": "ml"}' in text for text in texts), texts
