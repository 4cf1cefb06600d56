from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from tests.unit.containers.test_batch_jobs import PLAIN as BATCH
from tests.unit.containers.test_pods import MANIFEST
from tests.unit.containers.test_pods import PLAIN as KUBERNETES

from metaflow_orchestration.containers.options import check_options, resolve_compute, split_options
from metaflow_orchestration.documents.container_settings import RemoteSettings
from metaflow_orchestration.documents.manifest import Manifest
from metaflow_orchestration.exceptions import InvalidOptionError, UnsupportedFeatureError
from metaflow_orchestration.graph.compute import Compute
from metaflow_orchestration.graph.model import Decorator, Step, StepKind

PLAIN_STEP = Step(name="train", kind=StepKind.LINEAR)


def on(name: str, attributes: dict[str, Any]) -> Step:
    return replace(PLAIN_STEP, decorators=(Decorator(name=name, attributes=attributes),))


def with_defaults(**defaults: dict[str, Any]) -> Manifest:
    return replace(MANIFEST, remote=msgspec.to_builtins(RemoteSettings(compute_defaults=defaults)))


def test_the_dag_file_wins_over_the_decorator() -> None:
    step = on("kubernetes", KUBERNETES)
    assert resolve_compute(MANIFEST, step, None) is Compute.KUBERNETES
    assert resolve_compute(MANIFEST, step, "local") is Compute.LOCAL
    attributes, arguments = split_options(
        MANIFEST, step, Compute.KUBERNETES, {"image": "mine:2", "deferrable": True, "pod_override": {"spec": {}}}
    )
    assert (attributes["image"], attributes["cpu"]) == ("mine:2", "1")
    assert arguments == {"deferrable": True, "pod_override": {"spec": {}}}


def test_a_step_without_a_decorator_gets_the_defaults_of_the_deployment_and_its_resources() -> None:
    manifest = with_defaults(kubernetes=KUBERNETES)
    step = on("resources", {"cpu": 4})
    assert resolve_compute(manifest, step, "kubernetes") is Compute.KUBERNETES
    assert split_options(manifest, step, Compute.KUBERNETES, {})[0]["cpu"] == "4.0"


def test_containers_and_the_local_datastore_do_not_go_together() -> None:
    local = replace(MANIFEST, code=replace(MANIFEST.code, datastore="local"))
    with pytest.raises(UnsupportedFeatureError, match=r"step train: compute is 'kubernetes'.*--datastore=s3"):
        resolve_compute(local, PLAIN_STEP, "kubernetes")


def test_batch_needs_s3() -> None:
    with pytest.raises(
        UnsupportedFeatureError, match=r"step train: compute is 'batch'.*AWS Batch needs --datastore=s3"
    ):
        resolve_compute(with_defaults(kubernetes=KUBERNETES), PLAIN_STEP, "batch")


@pytest.mark.parametrize(
    ("compute", "attributes", "key"),
    [(Compute.KUBERNETES, KUBERNETES, "aws_conn_id"), (Compute.BATCH, BATCH, "in_cluster")],
)
def test_a_key_that_is_neither_attribute_nor_argument_is_refused(
    compute: Compute, attributes: dict[str, Any], key: str
) -> None:
    step = on(compute.value, attributes)
    with pytest.raises(InvalidOptionError, match=f"step train: `{compute.value}` has the unknown key '{key}'"):
        check_options(MANIFEST, step, compute, {key: 1})


@pytest.mark.parametrize(
    ("name", "value", "least"),
    [
        ("memory", "4Gi", "greater than 0"),
        ("cpu", 0, "greater than 0"),
        ("disk", None, "greater than 0"),
        ("gpu", -1, "0 or more"),
        ("port", "http", "0 or more"),
    ],
)
def test_a_number_of_the_dag_file_that_is_none_is_refused(name: str, value: object, least: str) -> None:
    with pytest.raises(InvalidOptionError, match=rf"step train: `kubernetes` has {name} .*a number {least}"):
        check_options(MANIFEST, on("kubernetes", {**KUBERNETES, name: None}), Compute.KUBERNETES, {name: value})


def test_a_number_may_be_text_and_one_that_is_not_needed_may_be_none() -> None:
    given = {"cpu": "0.5", "memory": 4096, "disk": 10.5, "gpu": None, "tmpfs_size": "", "shared_memory": 0}
    check_options(MANIFEST, on("kubernetes", {**KUBERNETES, **given}), Compute.KUBERNETES, given)


def test_an_attribute_that_this_release_does_not_know_is_refused_only_when_it_says_something() -> None:
    check_options(MANIFEST, on("kubernetes", {**KUBERNETES, "novelty": None}), Compute.KUBERNETES, {})
    with pytest.raises(UnsupportedFeatureError, match="@kubernetes has the attribute 'novelty'"):
        check_options(MANIFEST, on("kubernetes", {**KUBERNETES, "novelty": 1}), Compute.KUBERNETES, {})


@pytest.mark.parametrize("name", ["kubernetes", "batch"])
def test_every_attribute_of_the_installed_metaflow_is_known(name: str) -> None:
    from metaflow.plugins import STEP_DECORATORS

    from metaflow_orchestration.containers import options

    (decorator,) = [one for one in STEP_DECORATORS if one.name == name]
    assert set(decorator.defaults) - {"trainium"} <= options._KNOWN[Compute(name)]
