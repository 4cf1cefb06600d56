"""Promise: every text that a user controls arrives as data, on every target.

A flow is brought to each target twice: with a harmless word for a text of the user, and with a hostile text. What the
two give may differ in nothing but the text itself: same fields, same references and expressions, same lists.
"""

from __future__ import annotations

import base64
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from airflow.serialization.serialized_objects import DagSerialization
from hypothesis import HealthCheck, Phase, assume, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.security.test_kubernetes_texts import expand
from tests.support.recorded import BATCH, KUBERNETES, on_s3, read_recorded

from airflow_provider_metaflow import MetaflowDag
from airflow_provider_metaflow.plan.parameters import command_line_values
from metaflow_adapters.argo import compile_flow as argo_flow
from metaflow_adapters.argo.objects.events import EventSettings
from metaflow_adapters.step_functions import compile_flow as machine_of
from metaflow_adapters.step_functions.settings import AwsSettings
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task import machine_task, placed_parameters
from metaflow_orchestration.containers.batch_jobs import container_overrides
from metaflow_orchestration.containers.command import encode_inline, task_document
from metaflow_orchestration.containers.pods import make_pod, pod_annotations, pod_labels, pod_name
from metaflow_orchestration.documents.manifest import Manifest, Notifications, encode_manifest
from metaflow_orchestration.exceptions import MetaflowProviderError
from metaflow_orchestration.graph.identity import airflow_run_id
from metaflow_orchestration.graph.model import (
    Decorator,
    EventTrigger,
    ExitHook,
    FlowGraph,
    Parameter,
    ParameterType,
    Project,
    Step,
)
from metaflow_orchestration.run.commands import StepCall, init_arguments, parameters_path, step_arguments

WORD = "harmless"
EVENTS = EventSettings(event="event", source="source", account="account")
AWS = AwsSettings(
    machine_role="arn:aws:iam::1:role/m",
    events_role="arn:aws:iam::1:role/e",
    execution_role="arn:aws:iam::1:role/x",
    region="eu-west-1",
)

SAMPLES = [
    "'",
    '"',
    "`id`",
    "$(id)",
    "$$(NAME)",
    "${HOME}",
    "$HOME",
    "%PATH%",
    "\\",
    "\n",
    "a\nb: c",
    "\r\n",
    "\t",
    "\0",
    "\x1b[31m",
    "{{ ds }}",
    "{{workflow.name}}",
    "{{=1+1}}",
    "{% raw %}",
    "{% $states.input %}",
    "{%1%}",
    "}}",
    "{{",
    "{#",
    "#",
    "&",
    "*x",
    "!x",
    "| >",
    "- a",
    "? a",
    "a: b",
    "[a]",
    "{a: b}",
    "null",
    "true",
    "~",
    "1e3",
    "0x1",
    "---",
    "...",
    "<b>",
    "--tag=x",
    "-x",
    "@/etc/passwd",
    "../x",
    "/etc/passwd",
    "Ref::x",
    "ü",
    "☃",
    "\U0001f600",
    "\u2028",
    "\ufeff",
    "\x85",
    "'; drop table x; --",
    "$eval('1')",
    "' & 'x",
    "a" * 300,
    " ",
    "  x  ",
    ",",
    ":",
    "=",
    "a=b",
    ";",
    "eN",
    "<aws.scheduler.execution-id>",
    "%}",
    "<% x %>",
]
HOSTILE = st.one_of(
    st.sampled_from(SAMPLES),
    st.lists(st.sampled_from(SAMPLES), min_size=2, max_size=4).map("".join),
    st.text(min_size=1, max_size=20),
    st.text("{}$%()'\"\\`\n &|", min_size=1, max_size=12),
)

Site = Callable[[Manifest, str], Manifest]


def graph_of(manifest: Manifest, **changed: Any) -> Manifest:
    return replace(manifest, graph=replace(manifest.graph, **changed))


def deployed(manifest: Manifest, **changed: Any) -> Manifest:
    return replace(manifest, deployment=replace(manifest.deployment, **changed))


def every_step(manifest: Manifest, change: Callable[[Step], Step]) -> Manifest:
    return graph_of(manifest, steps=tuple(map(change, manifest.graph.steps)))


def attribute(name: str, value: Callable[[str], Any]) -> Site:
    """Give an attribute to the compute decorators of all steps."""

    def change(manifest: Manifest, text: str) -> Manifest:
        def one(step: Step) -> Step:
            made = [
                Decorator(name=deco.name, attributes={**deco.attributes, name: value(text)})
                if name in deco.attributes
                else deco
                for deco in step.decorators
            ]
            return replace(step, decorators=tuple(made))

        return every_step(manifest, one)

    return change


def parameter(kind: ParameterType = ParameterType.STR, **fields: Any) -> Parameter:
    return Parameter(name="alpha", variable="alpha", type=kind, **fields)


SITES: dict[str, Site] = {
    "default of a parameter": lambda m, t: graph_of(m, parameters=(parameter(default=t),)),
    "default of a JSON parameter": lambda m, t: graph_of(
        m, parameters=(parameter(ParameterType.JSON, default=json.dumps({"key": t})),)
    ),
    "default of a file": lambda m, t: graph_of(m, parameters=(parameter(ParameterType.FILE, default=t),)),
    "help of a parameter": lambda m, t: graph_of(m, parameters=(parameter(default="x", help=t),)),
    "tag": lambda m, t: deployed(m, tags=(t, "other")),
    "owner": lambda m, t: deployed(m, owner=t),
    "production token": lambda m, t: deployed(m, production_token=t),
    "namespace": lambda m, t: deployed(m, namespace=t),
    "branch": lambda m, t: graph_of(
        m, project=Project(name="p", branch=t, production=False, flow_name="p.b.LinearFlow")
    ),
    "docstring of the flow": lambda m, t: graph_of(m, doc=t),
    "docstring of a step": lambda m, t: every_step(m, lambda step: replace(step, doc=t)),
    "value of a variable": lambda m, t: every_step(m, lambda step: replace(step, environment=(("NAME", t),))),
    "name of a variable": lambda m, t: every_step(m, lambda step: replace(step, environment=((t, "x"),))),
    "option --with": lambda m, t: every_step(m, lambda step: replace(step, with_specs=(t,))),
    "function after a run": lambda m, t: graph_of(m, exit_hooks=(ExitHook(function=t, on_success=True),)),
    "name of an event": lambda m, t: graph_of(m, triggers=(EventTrigger(event=t),)),
    "field of an event": lambda m, t: graph_of(
        m,
        parameters=(parameter(default="x", required=True),),
        triggers=(EventTrigger(event="e", parameters=(("alpha", t),)),),
    ),
    "metadata of a notification": lambda m, t: deployed(
        m,
        notifications=Notifications(
            on_error=True, incident_io="c", incident_io_source=t, incident_io_metadata=(("k", t),)
        ),
    ),
    "top-level option": lambda m, t: replace(m, command=replace(m.command, top_level=(*m.command.top_level, t))),
    "setting of the installation": lambda m, t: replace(
        m, remote={**m.remote, "environment": {**m.remote["environment"], "METAFLOW_INIT_SCRIPT": t, "METAFLOW_X": t}}
    ),
    "image": attribute("image", lambda t: t),
    "label": attribute("labels", lambda t: {"key": t}),
    "annotation": attribute("annotations", lambda t: {"key": t}),
    "selector of a node": attribute("node_selector", lambda t: {"key": t}),
    "service account": attribute("service_account", lambda t: t),
    "secret": attribute("secrets", lambda t: [t]),
    "toleration": attribute("tolerations", lambda t: [{"key": t, "operator": "Exists"}]),
    "tag of a job": attribute("aws_batch_tags", lambda t: {"key": t}),
    "role of a job": attribute("iam_role", lambda t: t),
    "queue": attribute("queue", lambda t: t),
    "option of a log driver": attribute("log_options", lambda t: [f"awslogs-group:{t}"]),
}


def base(compute: str) -> Manifest:
    recorded = read_recorded("linear")
    assert recorded is not None
    manifest = on_s3(recorded, "linear")
    attributes = {
        "kubernetes": {**KUBERNETES, "namespace": None},
        "batch": {**BATCH, "execution_role": "arn:aws:iam::1:role/x"},
    }.get(compute)
    made = (Decorator(name=compute, attributes=attributes),) if attributes else ()
    return every_step(manifest, lambda step: replace(step, decorators=made))


BASES = {name: base(name) for name in ("local", "kubernetes", "batch")}


def inner(text: str) -> Any:
    """Return what a text holds that is a document itself."""
    if text.startswith("eN"):
        try:
            return json.loads(zlib.decompress(base64.b64decode(text)))
        except (ValueError, zlib.error):
            return None
    if text[:1] in "[{" and len(text) > 1:
        try:
            found = json.loads(text)
        except ValueError:
            return None
        return found if isinstance(found, (dict, list)) else None
    return None


def differences(plain: Any, hostile: Any, text: str, path: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield path, and text of both, wherever two documents differ; their forms must be the same."""
    if isinstance(plain, dict):
        assert isinstance(hostile, dict), path
        # Keys may hold the text.
        keys = {key: key if key in hostile else key.replace(WORD, text) for key in plain}
        made = [key for key in hostile if key not in keys.values()]
        for key in [key for key, other in keys.items() if other not in hostile]:
            keys[key] = made.pop(0)
            assert DERIVED.fullmatch(keys[key]), (path, key, keys[key])
        assert not made, (path, made)
        for key, other_key in keys.items():
            yield from differences(plain[key], hostile[other_key], text, f"{path}.{key}")
    elif isinstance(plain, list):
        assert isinstance(hostile, list), path
        assert len(plain) == len(hostile), path
        for one, other in zip(plain, hostile, strict=True):
            yield from differences(one, other, text, f"{path}[]")
    elif plain != hostile:
        assert isinstance(plain, str), (path, plain, hostile)
        assert isinstance(hostile, str), (path, plain, hostile)
        documents = inner(plain), inner(hostile)
        if all(one is not None for one in documents) and documents[0] != plain:
            yield from differences(*documents, text, f"{path}~")
        else:
            yield path, plain, hostile


DERIVED = re.compile(r"[A-Za-z0-9_.:/-]*")
"""Names and hashes made of a text: letters that no target looks at."""


def is_text_itself(plain: str, hostile: str, text: str) -> bool:
    first_line = (text.strip().splitlines() or [""])[0]
    return hostile in (plain.replace(WORD, text), plain.replace(WORD, json.dumps(text)[1:-1]), first_line)


_plain: dict[tuple[str, str, str], Any] = {}


def both(make: Callable[[Manifest], Any], site: str, compute: str, text: str) -> tuple[Any, Any]:
    """Bring a flow to a target with the word and with the text; refused is as good as brought as data."""
    assume(WORD not in text)
    key = (make.__name__, site, compute)
    if key not in _plain:
        _plain[key] = make(SITES[site](BASES[compute], WORD))
    plain = _plain[key]
    try:
        return plain, make(SITES[site](BASES[compute], text))
    except MetaflowProviderError:
        return None, None


EXAMPLES = int(os.environ.get("TEST_FUZZ_EXAMPLES", "0"))
"""How many texts to try, others each time; the same few without it."""

fuzz = settings(
    max_examples=EXAMPLES or 60,
    derandomize=not EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
    phases=[Phase.explicit, Phase.generate],
)


# Airflow.


def serialized(manifest: Manifest, folder: Any) -> Any:
    file = folder / "flow.metaflow.json"
    file.write_bytes(encode_manifest(manifest))
    dag = MetaflowDag(file)
    for task in dag.tasks:
        for name in task.template_fields:
            # Jinja renders them.
            assert getattr(task, name) in (None, "", {}, [], ()), (task.task_id, name)
        for name in ("map_index_template", "bash_command"):
            assert WORD not in str(getattr(task, name, ""))
    found = json.loads(json.dumps(DagSerialization.to_dict(dag)))
    found["dag"].pop("fileloc", None)
    # They are a set.
    found["dag"]["tags"] = [one for one in found["dag"]["tags"] if one not in ("metaflow", "other")]
    return found


@fuzz
@given(site=st.sampled_from(sorted(SITES)), compute=st.sampled_from(["local", "kubernetes", "batch"]), text=HOSTILE)
def test_on_airflow_every_text_is_data_of_the_serialized_dag(
    site: str, compute: str, text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    plain, hostile = both(lambda manifest: serialized(manifest, FOLDER(tmp_path_factory)), site, compute, text)
    for path, one, other in differences(plain, hostile, text):
        if is_text_itself(one, other, text) or "metaflow-event" in one:
            continue
        # The record in the documentation, and what is made of hashes.
        assert DERIVED.fullmatch(other) or path.endswith((".doc_md", ".description", ".__var")), (path, one, other)


_folders: list[Any] = []


def FOLDER(factory: pytest.TempPathFactory) -> Any:
    if not _folders:
        _folders.append(factory.mktemp("fuzz"))
    return _folders[0]


def call_of(manifest: Manifest) -> StepCall:
    return StepCall(
        step=manifest.graph.step("start"),
        run_id="airflow-1",
        task_id="t",
        attempt=0,
        max_user_retries=0,
        inputs=(parameters_path("airflow-1"),),
    )


def commands(manifest: Manifest) -> Any:
    call = call_of(manifest)
    needed = {one.name: "x" for one in manifest.graph.parameters if one.required}
    values = command_line_values(manifest.graph, needed)
    document = task_document(
        manifest, manifest.code, [call], environment=dict(call.step.environment), parameters=values
    )
    attributes = next((one.attributes for one in call.step.decorators), KUBERNETES)
    environment = {"TASK": encode_inline(document), **dict(call.step.environment)}
    found = {
        "step": step_arguments(manifest, call),
        "init": init_arguments(manifest, "airflow-1", values),
        "document": json.loads(zlib.decompress(base64.b64decode(encode_inline(document)))),
        "name": pod_name(manifest, call),
    }
    if "disk" in attributes:
        pod = make_pod(
            attributes,
            command=["python"],
            environment=environment,
            labels=pod_labels(manifest, call),
            annotations=pod_annotations(manifest, call),
            deadline_seconds=1,
        )
        for one in pod["spec"]["containers"][0]["env"]:
            if "value" in one:
                one["value"] = expand(one["value"])
        found["pod"] = pod
    elif "iam_role" in attributes:
        found["job"] = container_overrides(attributes, environment)
    return found


@fuzz
@given(site=st.sampled_from(sorted(SITES)), compute=st.sampled_from(["local", "kubernetes", "batch"]), text=HOSTILE)
def test_on_a_worker_every_text_is_one_word_of_a_command_or_one_variable(site: str, compute: str, text: str) -> None:
    plain, hostile = both(commands, site, compute, text)
    for path, one, other in differences(plain, hostile, text):
        assert is_text_itself(one, other, text) or DERIVED.fullmatch(other), (path, one, other)


# Argo Workflows.

REFERENCE = re.compile(r"\{\{.*?\}\}", re.DOTALL)
EVENT_PARAMETER = re.compile(r"spec\.arguments\.parameters\.#\(name=[A-Za-z0-9_]+\)\.value")


def workflow(manifest: Manifest) -> Any:
    made = argo_flow(manifest, namespace="flows", image=None, events=EVENTS)
    documents = made.to_dicts()
    # In C, where PyYAML has it: much of the time of this file is spent here.
    read = list(yaml.load_all(made.to_yaml(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    assert read == documents
    return documents


def templates(documents: Any) -> Any:
    """Return what Argo puts values into."""
    spec = documents[0]["spec"]
    return {key: value for key, value in spec.items() if key != "arguments"}


def references(document: Any) -> list[str]:
    return REFERENCE.findall(json.dumps(document, ensure_ascii=False))


@settings(fuzz, max_examples=EXAMPLES or 40)
@given(site=st.sampled_from(sorted(SITES)), text=HOSTILE)
@example(site="default of a parameter", text="$$(NAME)")
@example(site="owner", text="{{workflow.serviceAccountName}}")
@example(site="image", text="{{workflow.parameters.alpha}}")
@example(site="setting of the installation", text="$$(NAME) {{=1+1}}")
def test_on_argo_workflows_every_text_is_data_of_the_objects(site: str, text: str) -> None:
    plain, hostile = both(workflow, site, "kubernetes", text)
    if plain is None:
        return
    assert references(templates(plain)) == references(templates(hostile))
    for path, one, other in differences(plain, hostile, text):
        if path.endswith(".env[].value") and "$" in other:
            one, other = expand(one), expand(other)  # noqa: PLW2901
        as_literal = other == one.replace(json.dumps(WORD), json.dumps(text, ensure_ascii=False)).replace(
            f"'{WORD}'", json.dumps(text)
        )
        assert (
            is_text_itself(one, other, text)
            or as_literal
            or DERIVED.fullmatch(other)
            or EVENT_PARAMETER.fullmatch(other)
            or path.endswith((".fields[].path", "workflows.argoproj.io/title", "workflows.argoproj.io/description"))
        ), (path, one, other)


# AWS Step Functions.


def machine(manifest: Manifest) -> Any:
    made = machine_of(manifest, settings=AWS)
    resources = made.resources
    return {
        "definition": json.loads(made.to_json()),
        "jobs": list(resources.job_definitions),
        "rules": list(resources.rules),
        "schedules": list(resources.schedules),
        "machines": {str(number): one for number, one in enumerate(resources.state_machines.values())},
    }


def is_evaluated(text: str) -> bool:
    return text.startswith("{%") and text.endswith("%}")


@fuzz
@given(site=st.sampled_from(sorted(SITES)), text=HOSTILE)
@example(site="owner", text="{% $states.input %}")
@example(site="queue", text="{% $states.input %}")
@example(site="tag of a job", text="{%1%}")
@example(site="name of an event", text="' & $eval('1') & '")
def test_on_step_functions_every_text_is_data_of_the_machines(site: str, text: str) -> None:
    plain, hostile = both(machine, site, "batch", text)
    if plain is None:
        return
    for path, one, other in differences(plain, hostile, text):
        in_machine = path.startswith((".definition", ".machines"))
        if in_machine and is_evaluated(other):
            # An expression: the text in it is one literal, of single quotes where it is plain.
            literal = json.dumps(text, ensure_ascii=False)
            expected = {
                one.replace(f"'{WORD}'", literal).replace(json.dumps(WORD), literal),
                one.replace(json.dumps(WORD), literal).replace(WORD, text),
                f"{{% {literal} %}}",
                f"{{% '{text}' %}}",
            }
            plain_letters = DERIVED.fullmatch(text) is not None
            assert other in expected or plain_letters or is_hash_only(one, other), (path, one, other)
            continue
        assert is_text_itself(one, other, text) or DERIVED.fullmatch(other), (path, one, other)


def is_hash_only(one: str, other: str) -> bool:
    """Tell whether two expressions differ in names of definitions only, which are made of hashes."""
    strip = re.compile(r"metaflow[-_][A-Za-z0-9_-]+")
    return strip.sub("", one) == strip.sub("", other)


# Values of a run.


@fuzz
@given(text=HOSTILE)
def test_a_value_of_a_run_is_one_word_of_init_on_every_target(text: str) -> None:
    graph = FlowGraph(name="F", start="s", end="s", steps=(), parameters=(parameter(default="x"),))
    manifest = replace(BASES["local"], graph=replace(BASES["local"].graph, parameters=graph.parameters))
    known = {"parameters": ["alpha"], "top_level": [], "init_options": [], "nullable": []}
    wanted = f"--alpha={text}"
    assert init_arguments(manifest, "r", command_line_values(graph, {"alpha": text})).count(wanted) == 1
    given = [{"name": "alpha", "value": text}, {"name": text, "value": "x"}]
    words = placed_parameters.init_command(known, "argo-1", given)
    assert words["arguments"][-1:] == [wanted]
    assert len(words["arguments"]) == 4
    document = {
        "flow_name": "F",
        "parameters": ["alpha"],
        "required": [],
        "mappings": [{"event": "e", "parameters": [["alpha", "field"]], "all_needed": True}],
    }
    event = {"detail-type": "e", "source": "metaflow", "detail": {"field": text}}
    for given_input in ({"Parameters": {"alpha": text}}, {"Parameters": json.dumps({"alpha": text})}, event):
        assert machine_task.read_input(given_input, document)[0] == {"alpha": text}


@fuzz
@given(dag_id=HOSTILE, run_id=HOSTILE)
def test_a_run_id_is_letters_whatever_the_run_of_the_orchestrator_is_called(dag_id: str, run_id: str) -> None:
    assert re.fullmatch(r"airflow-[0-9a-f]{16}", airflow_run_id(dag_id, run_id.encode("utf-8", "replace").decode()))
