"""Promise: Kubernetes puts no variable of a container into a text of a user."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.recorded import KUBERNETES

from metaflow_adapters.argo import compile_flow
from metaflow_orchestration.containers.pods import literal, make_pod
from metaflow_orchestration.documents.manifest import Manifest

SECRETS = {"NAME": "a secret", "HOME": "/root"}


def expand(text: str, values: dict[str, str] = SECRETS) -> str:
    """What a container gets of a text: `Expand` of Kubernetes' third_party/forked/golang/expansion."""
    made, position = "", 0
    while position < len(text):
        if text[position] != "$" or position + 1 == len(text):
            made, position = made + text[position], position + 1
        elif text[position + 1] == "$":
            made, position = made + "$", position + 2
        elif text[position + 1] == "(" and ")" in text[position + 2 :]:
            end = text.index(")", position + 2)
            name = text[position + 2 : end]
            made, position = made + values.get(name, f"$({name})"), end + 1
        else:
            made, position = made + text[position : position + 2], position + 2
    return made


DOLLARS = st.text(st.sampled_from("$()NAMEx ")) | st.sampled_from(
    ["$(NAME)", "$$(NAME)", "$$$(NAME)", "$$", "$", "$(", "$$(", "${NAME}", "$NAME", "$(NAME", "a$$b", "$$$$(NAME)$"]
)


@settings(max_examples=300, deadline=None)
@given(DOLLARS)
def test_a_text_arrives_as_it_is_however_many_dollars_it_has(text: str) -> None:
    assert expand(literal(text)) == text


def test_what_was_escaped_at_the_parenthesis_only_would_not_arrive() -> None:
    assert expand("$$(NAME)".replace("$(", "$$(")) == "$a secret"


def test_commands_and_variables_of_a_pod_arrive_as_they_are() -> None:
    words = ["bash", "-c", "echo $$(NAME) $$ ${x}"]
    pod = make_pod(
        KUBERNETES, command=words, environment={"A": "$$(NAME)"}, labels={}, annotations={}, deadline_seconds=1
    )
    (container,) = pod["spec"]["containers"]
    assert [expand(word) for word in container["command"]] == words
    assert expand(next(one["value"] for one in container["env"] if one["name"] == "A")) == "$$(NAME)"


def test_commands_and_variables_of_a_workflow_arrive_as_they_are(on_s3: Callable[..., Manifest]) -> None:
    manifest = on_s3("linear")
    script = "echo $$(NAME) $(date) $$"
    environment = {**manifest.remote["environment"], "METAFLOW_INIT_SCRIPT": script}
    manifest.remote["environment"] = environment
    (template, *_) = compile_flow(manifest).to_dicts()
    container = template["spec"]["templateDefaults"]["container"]
    (found,) = [one["value"] for one in container["env"] if one["name"] == "METAFLOW_INIT_SCRIPT"]
    assert expand(found) == script
    assert [expand(word) for word in container["command"]][:3] == [
        "bash",
        "-c",
        'eval "${METAFLOW_INIT_SCRIPT}" && exec "$@"',
    ]
