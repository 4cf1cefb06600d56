"""In-task code can import neither the core nor the adapters, so it declares their documents itself: the same ones."""

from __future__ import annotations

from typing import Any, get_args

import metaflow  # noqa: F401  (before the decorator of its extension)
import msgspec
import pytest
from tests.support.recorded import GOLDEN, read_recorded

from airflow_provider_metaflow.compute.local import answers, request
from airflow_provider_metaflow.reading import documents as reading
from airflow_provider_metaflow.reading import facts
from metaflow_adapters import documents as adapters
from metaflow_adapters.step_functions.emit import documents as machines
from metaflow_adapters.step_functions.plan.nodes import JobKind
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task import (
    resumed_run,
    step_decorator,
    task_documents,
    task_place,
    task_requests,
    task_summary,
)
from metaflow_orchestration.documents import task
from metaflow_orchestration.graph import identity
from metaflow_orchestration.run import commands

FLOWS = {one.name: found for one in GOLDEN.iterdir() if (found := read_recorded(one.name)) is not None}


def declared(document: Any) -> tuple[set[str], set[str]]:
    """The keys that a document has, and those that it may lack."""
    # `NotRequired` is known to type checkers alone; the oldest Python of a task lacks it.
    texts = {name: getattr(kind, "__forward_arg__", str(kind)) for name, kind in document.__annotations__.items()}
    return set(texts), {name for name, text in texts.items() if text.startswith("NotRequired[")}


def written(struct: Any) -> tuple[set[str], set[str]]:
    """The same of a struct that another process writes or reads."""
    fields = msgspec.structs.fields(struct)
    leaves_out = struct.__struct_config__.omit_defaults
    lacking = {one.encode_name for one in fields if msgspec.UnsetType in get_args(one.type)}
    lacking |= {one.encode_name for one in fields if leaves_out and not one.required}
    return {one.encode_name for one in fields}, lacking


@pytest.mark.parametrize(
    ("core", "own"),
    [
        (task.Inherited, task_documents.Inherited),
        (task.InitRequest, task_documents.InitRequest),
        (task.TaskArguments, task_documents.TaskArguments),
    ],
)
def test_a_document_of_the_core_is_declared_with_the_same_keys(core: Any, own: Any) -> None:
    assert declared(own) == written(core)


def test_the_document_of_a_container_has_one_more_key_that_in_task_code_adds_itself() -> None:
    keys, lacking = declared(task_documents.TaskDocument)
    assert (keys - {"clones"}, lacking - {"clones"}) == written(task.TaskDocument)


@pytest.mark.parametrize(
    "name", ["RunRequest", "ProbeRequest", "FindTasksRequest", "SaveRequest", "HasRunRequest", "LoadRecordRequest",
             "SaveRecordRequest"],
)  # fmt: skip
def test_a_request_has_the_keys_that_the_worker_writes(name: str) -> None:
    flow, asked = written(request.FlowOfRequest), written(getattr(request, name))
    keys, lacking = declared(getattr(task_requests, name))
    # The process itself hands parameters on to `init` by it; a container asks without an operation.
    keys, lacking = keys - {"inherit", "op"}, lacking - {"inherit", "op"}
    assert keys == flow[0] | asked[0]
    # What a package of another release does not know must not be missing for this one.
    assert asked[1] <= lacking <= asked[1] | {"import_paths"}


def test_each_request_names_the_method_that_answers_it() -> None:
    from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task.task_runner import Session

    for kind in request.Request.__subclasses__():
        assert hasattr(Session, f"_{kind.__struct_config__.tag}")


@pytest.mark.parametrize(
    "name", ["RunAnswer", "ProbeAnswer", "FindTasksAnswer", "SaveAnswer", "HasRunAnswer", "RecordAnswer"]
)
def test_an_answer_has_the_keys_that_the_worker_reads(name: str) -> None:
    assert declared(getattr(task_requests, name))[0] == written(getattr(answers, name))[0]


@pytest.mark.parametrize("flow", sorted(FLOWS))
def test_what_the_adapters_write_has_no_other_keys(flow: str) -> None:
    manifest = FLOWS[flow]
    check(task_documents.FlowDocument, adapters.flow_document(manifest))
    triggers = {f"event-{number}": "event" for number, _ in enumerate(manifest.graph.triggers)}
    for step in manifest.graph.steps:
        document = adapters.step_document(
            manifest, step, environment={}, outputs={"splits": "/f"}, retries=1, triggers=triggers
        )
        check(task_documents.StepFacts, document)
        check_sources(document)


@pytest.mark.parametrize("flow", sorted(FLOWS))
@pytest.mark.parametrize("kind", [JobKind.ARRAY, JobKind.SINGLE])
def test_what_a_state_machine_tells_its_jobs_has_no_other_keys(flow: str, kind: JobKind) -> None:
    manifest = FLOWS[flow]
    document = machines.whole_document(manifest, dict.fromkeys([one.name for one in manifest.graph.steps], kind))
    check(task_documents.MachineDocument, document)
    for one in document["each"].values():
        check(task_documents.StepFacts, one)
    for one in document["mappings"]:
        check(task_documents.EventMapping, one)


def check(own: Any, document: dict[str, Any]) -> None:
    """Check that a document has all keys that it must have, and none that is not declared."""
    keys, lacking = declared(own)
    assert keys - lacking <= set(document) <= keys


def check_sources(document: dict[str, Any]) -> None:
    sources = document["sources"] or {}
    assert set(sources) <= declared(task_documents.Sources)[0]
    for branch in sources.get("branches", ()):
        assert set(branch) <= declared(task_documents.Branch)[0]
    for walked in document.get("steps", {}).values():
        check(task_documents.WalkedStep, walked)
    for one in document.get("files", {}).values():
        assert set(one) <= declared(task_documents.FileFacts)[0]


def test_an_outcome_in_a_summary_is_checked_key_by_key() -> None:
    assert {*task_summary._FIELDS, "task_id", "attempt"} == declared(task_documents.Outcome)[0]


def test_names_and_numbers_are_those_of_the_core() -> None:
    assert task_documents.NO_RETRY == commands.NO_RETRY
    assert (resumed_run.PARAMETERS_STEP, resumed_run.PARAMETERS_TASK) == (
        identity.PARAMETERS_STEP,
        identity.PARAMETERS_TASK,
    )
    for name in ("OUTCOME_VARIABLE", "LINKS_VARIABLE", "TRIGGERS_VARIABLE"):
        assert getattr(task_place, name) == getattr(step_decorator, name)
    assert list(commands.resumed_variables("r")) == [resumed_run.PARAMETERS_TASK_VARIABLE]


def test_what_airflow_reads_of_a_summary_is_what_tasks_write() -> None:
    assert (facts.SUMMARY, facts.VERSION) == (task_summary.NAME, task_summary.VERSION)
    assert declared(reading.StoredSummary)[0] <= declared(task_documents.Summary)[0]
    assert declared(reading.StoredArtifact)[0] <= declared(task_documents.ArtifactFacts)[0]
