"""State machines of an installation that is the same on every machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.aws_account import QUEUE, Account, aws_account
from tests.support.aws_account import SETTINGS as ACCOUNT_SETTINGS

from metaflow_adapters.step_functions import FlowMachine, compile_flow
from metaflow_adapters.step_functions.settings import AwsSettings
from metaflow_orchestration.documents.manifest import Manifest

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


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    """An AWS account in this process, where everybody has the permissions that are printed and no others."""
    with aws_account(tmp_path) as made:
        yield made


@pytest.fixture
def there(machine: Callable[..., FlowMachine]) -> Callable[..., FlowMachine]:
    """Makes the state machine of a flow for that account."""

    def make(name: str, **options: Any) -> FlowMachine:
        return machine(name, **{"settings": ACCOUNT_SETTINGS, "queue": QUEUE, "gang_poll_seconds": 1, **options})

    return make
