"""`Deployer(…).argo()` and `.sfn()`: what they are called, and what their `create` hands out."""

from __future__ import annotations

from typing import Any

import pytest

from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.argo_deployer import ArgoDeployer
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.argo_deployer_objects import ArgoDeployedFlow
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.sfn_deployer import SfnDeployer
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.sfn_deployer_objects import SfnDeployedFlow


@pytest.mark.parametrize(
    ("deployer", "group", "flow"), [(ArgoDeployer, "argo", ArgoDeployedFlow), (SfnDeployer, "sfn", SfnDeployedFlow)]
)
def test_a_deployer_creates_deployed_flows_of_its_own_kind_with_the_options_given(
    deployer: Any, group: str, flow: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    created: list[Any] = []
    monkeypatch.setattr(deployer, "_create", lambda _, kind, **given: created.append((kind, given)) or "created")
    assert group == deployer.TYPE
    assert deployer.deployed_flow_type() is flow
    assert deployer.create(deployer.__new__(deployer), max_workers=3) == "created"
    assert created == [(flow, {"max_workers": 3})]
