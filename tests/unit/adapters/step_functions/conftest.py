"""State machines of an installation that is the same on every machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_metaflow.flow.manifest import Manifest
from metaflow_adapters.step_functions import FlowMachine, compile_flow
from metaflow_adapters.step_functions.settings import AwsSettings

SETTINGS = AwsSettings(
    machine_role="arn:aws:iam::123456789012:role/machines",
    events_role="arn:aws:iam::123456789012:role/events",
    region="eu-west-1",
)


@pytest.fixture
def machine(on_s3: Callable[..., Manifest]) -> Callable[..., FlowMachine]:
    """Makes the state machine of a flow, its manifest changed if a function for that is given."""

    def make(
        name: str, *, change: Callable[[Manifest], Manifest] | None = None, deployment: dict[str, Any] | None = None,
        **options: Any,
    ) -> FlowMachine:  # fmt: skip
        manifest = on_s3(name, **{"max_workers": None, **(deployment or {})})
        return compile_flow(change(manifest) if change else manifest, **{"settings": SETTINGS, **options})

    return make
