"""Metaflow's configuration `ARGO_WORKFLOWS_…`, which users of Metaflow's own deployer rely on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.unit.adapters.argo.test_compile import readable, templates_of

from metaflow_adapters.argo import compile_flow
from metaflow_adapters.argo.objects.configuration import as_configured
from metaflow_orchestration.documents.manifest import Manifest


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets values of Metaflow's configuration."""

    def make(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setattr(f"metaflow.metaflow_config.ARGO_WORKFLOWS_{name}", value)

    return make


def test_all_pods_get_the_secrets_that_are_configured_for_argo(
    configure: Callable[..., None], on_s3: Callable[..., Manifest]
) -> None:
    configure(KUBERNETES_SECRETS="team,cloud")
    manifest = on_s3("decorated/nightly")
    manifest = msgspec.structs.replace(manifest, remote={**manifest.remote, "pod_secrets": ["team", "first"]})
    found = templates_of(compile_flow(as_configured(manifest), namespace="flows"))
    pods = {name: one["container"] for name, one in found.items() if "container" in one}
    # Those of the steps, and those that run after them.
    assert {"start", "exit-hook-success-0"} <= set(pods)
    for one in pods.values():
        assert [secret["secretRef"]["name"] for secret in one["envFrom"]][:3] == ["team", "first", "cloud"]


def test_variables_that_are_to_be_skipped_come_from_the_pod_only(
    configure: Callable[..., None], on_s3: Callable[..., Manifest]
) -> None:
    configure(ENV_VARS_TO_SKIP="METAFLOW_SERVICE_URL,COLOUR,METAFLOW_S3_ENDPOINT_URL")
    manifest = on_s3("linear")
    remote = {"METAFLOW_SERVICE_URL": "u", "METAFLOW_S3_ENDPOINT_URL": "e", "METAFLOW_CARD_S3ROOT": "c"}
    graph = manifest.graph
    start = msgspec.structs.replace(graph.steps[0], environment=(("COLOUR", "red"), ("SHAPE", "round")))
    manifest = msgspec.structs.replace(
        manifest,
        remote={**manifest.remote, "environment": remote},
        graph=msgspec.structs.replace(graph, steps=(start, *graph.steps[1:])),
    )
    (template,) = readable(compile_flow(as_configured(manifest)).to_dicts())
    text = msgspec.json.encode(template).decode()
    assert all(name not in text for name in ("METAFLOW_SERVICE_URL", "COLOUR", "METAFLOW_S3_ENDPOINT_URL"))
    assert all(name in text for name in ("METAFLOW_CARD_S3ROOT", "SHAPE", "METAFLOW_CODE_URL"))


@pytest.mark.parametrize(("options", "runs"), [({}, True), ({"report_failures": False}, False)])
def test_a_script_for_errors_runs_after_a_failure_unless_errors_are_not_to_be_captured(
    options: dict[str, Any], runs: bool, configure: Callable[..., None], on_s3: Callable[..., Manifest]
) -> None:
    script = 'echo "{{workflow.name}} $METAFLOW_ARGO_ERROR"'
    configure(CAPTURE_ERROR_SCRIPT=script)
    found = templates_of(compile_flow(as_configured(on_s3("linear")), **options))
    assert ("error-msg-capture-hook" in found) is runs
    if runs:
        (step,) = found["exit"]["steps"][0]
        assert "== Failed" in step["when"]
        (task, failures) = found["error-msg-capture-hook"]["container"]["env"]
        assert readable(task["value"]) == {"aside": {"error_script": script}}
        assert failures["value"] == "{{=sprig.b64enc(workflow.failures)}}"


def test_without_configuration_a_manifest_stays_as_it_is(on_s3: Callable[..., Manifest]) -> None:
    manifest = on_s3("linear")
    assert as_configured(manifest) == manifest
    local = msgspec.structs.replace(manifest, remote={})
    assert as_configured(local) is local
