"""Resumes by the Deployer, as Metaflow's own suite tests them (test/ux/core/test_resume.py), on any orchestrator."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_SCRIPT = """
import json, subprocess, sys, tempfile
from metaflow import Deployer

file, group, name, options = sys.argv[1:]
deployer = getattr(Deployer(file, pylint=False, show_output=False), group)(name=name)
deployed = deployer.create(**json.loads(options))


def run_id(run):
    return run.pathspec.split("/")[1]


def ended(run, expected):
    run.wait_for_completion(check_interval=2, timeout=600)
    assert run.status.upper() == expected, (run.pathspec, run.status)
    assert run.run.successful == (expected == "SUCCEEDED"), run.pathspec
    return run.run


def origins(run):
    # Of each task that was taken over, the task that it is a clone of; None of one that ran.
    return {step.id: {task.origin_pathspec for task in step} for step in run}


def of(origin):
    return {step: f"ResumedFlow/{origin}/{step}/" for step in ("start", "body", "collect", "end")}


def cloned(found, origin):
    places = {step: found[step] - {None} for step in found}
    assert all(one.startswith(of(origin)[step]) for step, all_of in places.items() for one in all_of), found
    return {step for step in found if None not in found[step]}


good, bad = deployed.trigger(alpha=2), deployed.trigger(unlucky=True)
ended(good, "SUCCEEDED")
ended(bad, "FAILED")

whole = deployed.resume(origin_run_id=run_id(good))
part = deployed.resume(origin_run_id=run_id(good), step_to_rerun="collect", alpha=5)
fixed = deployed.resume(origin_run_id=run_id(bad), unlucky=False)
same = bad.resume(unlucky=False)

run = ended(whole, "SUCCEEDED")
assert cloned(origins(run), run_id(good)) == {"start", "body", "collect", "end"}, origins(run)
assert run.data.of_end == (2, [10, 20], False, "default", 7), run.data.of_end

run = ended(part, "SUCCEEDED")
assert cloned(origins(run), run_id(good)) == {"start", "body"}, origins(run)
assert (run.data.of_start, run.data.bodies, run.data.of_collect) == (2, [(2, 10), (2, 20)], 5)
assert run.data.of_end == (5, [10, 20], False, "default", 7), run.data.of_end
assert (run.data.origin, run.origin_pathspec) == (run_id(good), good.pathspec)

for resumed in (fixed, same):
    run = ended(resumed, "SUCCEEDED")
    found = origins(run)
    assert cloned(found, run_id(bad)) == {"start"}, found
    assert len(found["body"]) == 2, "the split that had succeeded was taken over, the other ran"
    assert run.data.bodies == [(1, 10), (1, 20)]
    assert run.data.of_end == (1, [10, 20], False, "default", 7), run.data.of_end

# Of a run that Metaflow's own scheduler made.
with tempfile.NamedTemporaryFile("r") as id_file:
    command = [sys.executable, file, "--no-pylint", "--quiet", "run", "--run-id-file", id_file.name]
    local = subprocess.run([*command, "--alpha=3", "--unlucky=True"], capture_output=True, text=True)
    assert local.returncode == 1, local.stdout + local.stderr
    origin = id_file.read().strip()
run = ended(deployed.resume(origin_run_id=origin, unlucky=False), "SUCCEEDED")
found = origins(run)
assert cloned(found, origin) == {"start"}, found
assert len(found["body"] - {None}) == 1, found
assert run.data.bodies == [(3, 10), (3, 20)]
assert run.data.of_end == (3, [10, 20], False, "default", 7), run.data.of_end
print("OK")
"""


def check_resumes(flow: Path, group: str, name: str, environment: Mapping[str, str], options: str = "{}") -> None:
    """Deploy ``resumed.py``, start it twice, once so that a split fails, and resume both runs in each way.

    :param flow: the file of the flow.
    :param group: the method of `Deployer` that stands for the orchestrator.
    :param name: the name of the deployment.
    :param environment: the environment of the process that does so.
    :param options: what is passed to ``create``, in JSON.
    """
    arguments = [sys.executable, "-c", _SCRIPT, str(flow), group, name, options]
    done = subprocess.run(arguments, capture_output=True, text=True, env=dict(environment), cwd=flow.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "OK"
