"""What steps ask of their worker pods on the KubernetesExecutor."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from kubernetes.client import ApiClient, models

from airflow_provider_metaflow import FlowTranslator, MetaflowDag, MetaflowTaskGroup, StepContext
from airflow_provider_metaflow._compat import serialize_dag
from metaflow_orchestration.documents.manifest import Manifest, encode_manifest
from metaflow_orchestration.exceptions import MissingExtraError

ASKED = {"requests": {"cpu": "3", "memory": "5000M"}}
"""What the step `train` of the flow `careful` asks for with @resources."""

OWN = models.V1Pod(
    metadata=models.V1ObjectMeta(labels={"team": "ml"}),
    spec=models.V1PodSpec(
        priority_class_name="batch", containers=[models.V1Container(name="base", image="team/airflow:1")]
    ),
)


@pytest.fixture
def file_of(recorded: Callable[[str], Manifest], tmp_path: Path) -> Callable[[str], Path]:
    """Writes the manifest of a recorded flow beside a DAG file."""

    def write(name: str) -> Path:
        path = tmp_path / f"{name}.metaflow.json"
        path.write_bytes(encode_manifest(recorded(f"decorated/{name}")))
        return path

    return write


@pytest.fixture
def executors(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Configures executors."""
    return lambda names: monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", names)


@pytest.fixture
def careful(file_of: Callable[[str], Path], executors: Callable[[str], None]) -> Path:
    """A flow of local steps, of which one has @resources, where tasks get pods."""
    executors("KubernetesExecutor")
    return file_of("careful")


def config_of(dag: DAG, step: str = "train") -> dict[str, Any]:
    return dict(dag.get_task(step).executor_config or {})


def spec_of(dag: DAG, step: str = "train") -> dict[str, Any]:
    pod = config_of(dag, step)["pod_override"]
    return dict(ApiClient().sanitize_for_serialization(pod)["spec"])


def test_a_step_with_resources_gets_them_and_others_get_the_pod_of_the_template(careful: Path) -> None:
    dag = MetaflowDag(careful)
    assert spec_of(dag) == {"containers": [{"name": "base", "resources": ASKED}]}
    assert [task.task_id for task in dag.tasks if task.executor_config] == ["fit", "train"]


def test_the_scheduler_reads_the_pod_from_the_serialized_dag(careful: Path) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    first, second = (json.dumps(serialize_dag(MetaflowDag(careful)), sort_keys=True) for _ in range(2))
    assert first == second
    read = DagSerialization.from_dict(json.loads(first)).get_task("train").executor_config["pod_override"]
    assert read.spec.containers[0].resources.requests == ASKED["requests"]


def test_steps_in_a_task_group_and_with_default_args_get_their_pods(
    careful: Path, executors: Callable[[str], None]
) -> None:
    executors("LocalExecutor,pods:KubernetesExecutor")
    with DAG("around", schedule=None, default_args={"executor": "pods"}) as dag:
        MetaflowTaskGroup(careful, "flow")
    assert spec_of(dag, "flow.train")["containers"][0]["resources"] == ASKED


def test_only_tasks_of_the_executor_ask_for_pods(careful: Path, executors: Callable[[str], None]) -> None:
    chosen = {"train": {"executor": "KubernetesExecutor"}}
    executors("LocalExecutor,KubernetesExecutor")
    assert spec_of(MetaflowDag(careful, "chosen", step_overrides=chosen))
    assert config_of(MetaflowDag(careful, "other")) == {}
    executors("KubernetesExecutor,LocalExecutor")
    assert config_of(MetaflowDag(careful, "local", step_overrides={"train": {"executor": "LocalExecutor"}})) == {}


def test_what_the_user_says_of_the_pod_is_laid_over_it(careful: Path) -> None:
    class Priority(FlowTranslator):
        def executor_config(self, context: StepContext) -> dict[str, Any] | None:
            return {"pod_override": OWN, "pod_template_file": "/pod.yaml"} if context.step.gang else None

    dag = MetaflowDag(careful, translator=Priority())
    assert spec_of(dag) == {
        "priorityClassName": "batch",
        "containers": [{"name": "base", "image": "team/airflow:1", "resources": ASKED}],
    }
    assert config_of(dag)["pod_override"].metadata.labels == {"team": "ml"}
    assert config_of(dag)["pod_template_file"] == "/pod.yaml"
    assert OWN.spec.containers[0].resources is None, "the user's own pod stays"


def test_requests_of_the_user_win(careful: Path) -> None:
    small = models.V1ResourceRequirements(requests={"cpu": "100m"})
    pod = models.V1Pod(spec=models.V1PodSpec(containers=[models.V1Container(name="base", resources=small)]))
    dag = MetaflowDag(careful, step_overrides={"train": {"executor_config": {"pod_override": pod}}})
    assert spec_of(dag)["containers"] == [{"name": "base", "resources": {"requests": {"cpu": "100m"}}}]


def test_an_override_of_none_leaves_the_pod_to_the_template(careful: Path) -> None:
    dag = MetaflowDag(careful, step_overrides={"train": {"executor_config": {"pod_override": None}}})
    assert config_of(dag) == {"pod_override": None}


def test_a_step_with_kubernetes_is_a_pod_of_its_own_unless_it_is_sent_to_the_worker(
    file_of: Callable[[str], Path], executors: Callable[[str], None]
) -> None:
    executors("KubernetesExecutor")
    apart = MetaflowDag(file_of("pods"), "apart")
    assert not any(task.executor_config for task in apart.tasks)
    here = MetaflowDag(file_of("pods"), "here", compute="local", kubernetes={"memory": "200"})
    asked = spec_of(here, "start")["containers"][0]
    assert asked["image"] == "registry.example.org/team/image:2"
    assert (asked["resources"]["requests"]["memory"], asked["resources"]["limits"]["amd.com/gpu"]) == ("200M", "1")
    assert "image" not in spec_of(here, "end")["containers"][0]


def test_a_task_that_executes_a_step_does_not_import_the_client(careful: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "executed")
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_TASK_ID", "train")
    assert config_of(MetaflowDag(careful, "executed")) == {}
    # The process of a task may serialize others.
    assert spec_of(MetaflowDag(careful, "other"))


def test_a_missing_package_is_named_with_the_step(careful: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "airflow.providers.cncf.kubernetes.pod_generator", None)
    with pytest.raises(MissingExtraError) as caught:
        MetaflowDag(careful)
    text = str(caught.value)
    assert text.startswith("flow CarefulFlow step fit: asks for a worker pod of its own on the KubernetesExecutor")
    assert "(airflow.providers.cncf.kubernetes.pod_generator)" in text
    assert 'pip install "airflow-provider-metaflow[airflow-kubernetes]"' in text
