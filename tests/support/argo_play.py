"""Plays a run of the objects of Argo Workflows, as its controller would run them, without a pod."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task.task_place import task_id

from .plays import Path, Play, Task

_LAST = re.compile(r"steps\.again\.status == 'Succeeded' \? (\S+) : (\S+)")
_REFERENCE = re.compile(r"{{([^{}]+)}}")
Values = dict[str, str]


@dataclass
class ArgoPlay:
    """One run.

    :param templates: templates of the workflow by name.
    :param play: what its tasks say of themselves.
    :param done: its tasks in the order in which they ended.
    """

    templates: dict[str, dict[str, Any]]
    play: Play
    done: list[Task] = field(default_factory=list)

    def run(self, name: str, arguments: Values) -> Values:
        """Run a template and return its outputs."""
        template = self.templates[name]
        values = {}
        for one in template.get("inputs", {}).get("parameters", []):
            given = arguments[one["name"]] if one["name"] in arguments else one["value"]
            values[f"inputs.parameters.{one['name']}"] = given
        assert {key.rpartition(".")[2] for key in values} >= set(arguments), f"{name} takes no such argument"
        if "dag" in template:
            return self._dag(template["dag"]["tasks"], values)
        if "steps" in template:
            return self._loop(template, values)
        if "suspend" in template:
            assert str(template["suspend"]["duration"]) == "0"
            return {}
        return self._task(template, values)

    def _dag(self, tasks: list[dict[str, Any]], values: Values) -> Values:
        state: dict[str, str] = {}
        outputs: Values = {}
        names = [task["name"] for task in tasks]
        assert len(set(names)) == len(names), f"a task stands twice among {names}"
        waiting = list(tasks)
        while waiting:
            ready = [task for task in waiting if all(name in state for name in _needed(task))]
            assert ready, f"{[task['name'] for task in waiting]} wait without end"
            for task in ready:
                waiting.remove(task)
                state[task["name"]] = self._dag_task(task, state, {**values, **outputs}, outputs)
        return {}

    def _dag_task(self, task: dict[str, Any], state: dict[str, str], values: Values, outputs: Values) -> str:
        if not _holds(task.get("depends", ""), state):
            return "Omitted"
        if "when" in task and not _when(_filled(task["when"], values)):
            return "Skipped"
        count = int(_filled(task["withSequence"]["count"], values)) if "withSequence" in task else None
        for item in range(1 if count is None else count):
            given = values if count is None else {**values, "item": str(item)}
            found = self.run(task["template"], _arguments(task, given))
            if count is None:
                outputs.update({f"tasks.{task['name']}.outputs.parameters.{key}": one for key, one in found.items()})
        return "Succeeded"

    def _loop(self, template: dict[str, Any], values: Values) -> Values:
        (once,), (again,) = template["steps"]
        outputs = {f"steps.once.outputs.parameters.{key}": one for key, one in self._step(once, values).items()}
        goes_on = _when(_filled(again["when"], {**values, **outputs}))
        if goes_on:
            found = self._step(again, {**values, **outputs})
            outputs |= {f"steps.again.outputs.parameters.{key}": one for key, one in found.items()}
        (output,) = template["outputs"]["parameters"]
        found_last = _LAST.fullmatch(output["valueFrom"]["expression"])
        assert found_last, output
        deeper, own = found_last.groups()
        return {output["name"]: outputs[deeper if goes_on else own]}

    def _step(self, step: dict[str, Any], values: Values) -> Values:
        return self.run(step["template"], _arguments(step, values))

    def _task(self, template: dict[str, Any], values: Values) -> Values:
        step = template["metadata"]["labels"]["metaflow/step"]
        if "resource" in template:
            env = self._gang(template["resource"]["manifest"], values)
        else:
            env = {one["name"]: one.get("value", "") for one in template["container"]["env"]}
        env = {name: _filled(value, values) for name, value in env.items() if name in _PLACED}
        path = _path(base64.b64decode(env.get("METAFLOW_ORCHESTRATOR_PLACE_BASE64", "")).decode())
        iteration = int(env.get("METAFLOW_ORCHESTRATOR_ITERATION", "0"))
        self.done.append((step, path, iteration))
        outcome = self.play.outcomes[(step, task_id(step, path, iteration))]
        found = {"splits": outcome.get("num_splits"), "nodes": 2, "next": outcome["next"][0] if outcome["next"] else ""}
        outputs = template.get("outputs", {}).get("parameters", [])
        return {one["name"]: str(found[one["name"]]) for one in outputs}

    def _gang(self, manifest: str, values: Values) -> Values:
        spec = _job(yaml.load(_filled(manifest, {**values, "workflow.name": "w"}, strict=False), yaml.CSafeLoader))
        assert (spec["completions"], spec["parallelism"], spec["completionMode"]) == (2, 2, "Indexed")
        (container,) = spec["template"]["spec"]["containers"]
        return {one["name"]: one.get("value", "") for one in container["env"]}


_PLACED = ("METAFLOW_ORCHESTRATOR_PLACE_BASE64", "METAFLOW_ORCHESTRATOR_ITERATION")


def _job(document: dict[str, Any]) -> dict[str, Any]:
    if document["kind"] == "Job":
        spec: dict[str, Any] = document["spec"]
        return spec
    (job,) = document["spec"]["replicatedJobs"]
    inner: dict[str, Any] = job["template"]["spec"]
    return inner


def _needed(task: dict[str, Any]) -> list[str]:
    return re.findall(r"([\w-]+)\.Succeeded", task.get("depends", ""))


def _holds(depends: str, state: dict[str, str]) -> bool:
    """Evaluate Argo's `depends`."""
    if not depends:
        return True
    text = re.sub(r"([\w-]+)\.Succeeded", lambda found: str(state[found.group(1)] == "Succeeded"), depends)
    assert re.fullmatch(r"[TrueFals()&| ]+", text), depends
    return bool(eval(text.replace("&&", "and").replace("||", "or")))


def _when(text: str) -> bool:
    left, right = text.split(" == ")
    return left == right


_ENCODED = re.compile(r"sprig\.b64enc\((\S+)\)")
_NUMBER = re.compile(r'(\S+) matches "\^\[0-9\]\+\$" \? \1 : "no-number"')
_COUNTED = re.compile(r"asInt\((\S+)\) \+ 1")


def _evaluated(expression: str, values: Values) -> str:
    """Evaluate the expressions that our templates hold, where they concern the order of tasks."""
    if found := _ENCODED.fullmatch(expression):
        return base64.b64encode(values.get(found[1], "").encode()).decode()
    if found := _NUMBER.fullmatch(expression):
        assert values[found[1]].isdigit()
        return values[found[1]]
    if found := _COUNTED.fullmatch(expression):
        return str(int(values[found[1]]) + 1)
    return expression


def _filled(text: str, values: Values, *, strict: bool = True) -> str:
    """Fill in references; one to the output of a task that has not run would let Argo wait without end."""

    def value(found: re.Match[str]) -> str:
        name = found.group(1)
        if name.startswith("="):
            return _evaluated(name[1:], values)
        if not strict and name not in values:
            return found.group(0)
        return values[name]

    return _REFERENCE.sub(value, text)


def _arguments(task: dict[str, Any], values: Values) -> Values:
    given = task.get("arguments", {}).get("parameters", [])
    return {one["name"]: _filled(str(one["value"]), values) for one in given}


def _path(place: str) -> Path:
    return tuple(int(one) for one in place.rpartition("@")[2].split("-") if one)


def play_argo(documents: list[dict[str, Any]], play: Play, **arguments: str) -> list[Task]:
    """Play a run of a workflow template; return its tasks in the order in which they ended.

    :param documents: the objects of a flow, the template first.
    :param play: the run that it is to be.
    :param arguments: arguments of the entrypoint.
    """
    spec = json.loads(json.dumps(documents[0]))["spec"]
    run = ArgoPlay({one["name"]: one for one in spec["templates"]}, play)
    assert len(run.templates) == len(spec["templates"]), "two templates have one name"
    run.run(spec["entrypoint"], arguments)
    return run.done
