"""``@schedule`` as a cron workflow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from metaflow_adapters.argo import compile_flow
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import InvalidOptionError
from metaflow_orchestration.graph.model import Parameter, ParameterType, Schedule


def scheduled(manifest: Manifest, cron: str, zone: str | None = None, **graph: Any) -> Manifest:
    replace = msgspec.structs.replace
    return replace(manifest, graph=replace(manifest.graph, schedule=Schedule(cron=cron, timezone=zone), **graph))


def test_a_schedule_keeps_its_timezone_and_is_renumbered(on_s3: Callable[..., Manifest]) -> None:
    manifest = scheduled(on_s3("linear"), "0 6 ? * 2-6 *", "Europe/Berlin")
    cron = compile_flow(manifest, concurrency_policy="Forbid", failed_runs_kept=3).to_dicts()[1]
    assert cron["kind"] == "CronWorkflow"
    spec = cron["spec"]
    assert (spec["schedules"], spec["timezone"]) == (["0 6 * * 1-5"], "Europe/Berlin")
    assert (spec["concurrencyPolicy"], spec["failedJobsHistoryLimit"]) == ("Forbid", 3)
    assert spec["workflowSpec"]["workflowTemplateRef"] == {"name": "linear"}


@pytest.mark.parametrize(
    ("cron", "zone", "told"),
    [
        ("0 0 L * ? *", None, "uses L or #"),
        ("0 0 ? * 2#1 *", None, "uses L or #"),
        ("0 0 * * ? 2030", None, "the cron of Argo Workflows has no field for"),
        ("0 0 * * ? *", "Mars/Olympus", "no known timezone"),
    ],
)
def test_what_argo_cannot_keep_is_refused(
    on_s3: Callable[..., Manifest], cron: str, zone: str | None, told: str
) -> None:
    with pytest.raises(InvalidOptionError, match=told):
        compile_flow(scheduled(on_s3("linear"), cron, zone))


def test_a_required_parameter_has_no_value_on_a_schedule(on_s3: Callable[..., Manifest]) -> None:
    needed = (Parameter(name="alpha", variable="alpha", type=ParameterType.INT, required=True),)
    with pytest.raises(InvalidOptionError, match="parameter 'alpha' is required and has no default"):
        compile_flow(scheduled(on_s3("linear"), "0 0 * * ? *", parameters=needed))
