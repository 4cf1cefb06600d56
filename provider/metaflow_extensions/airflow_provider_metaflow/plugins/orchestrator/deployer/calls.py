"""How Metaflow's Deployer calls the command groups of this package."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any


def shown_deployer(deployer: Any) -> str:
    """Return the ``repr`` of a deployer."""
    return "%s(%r)" % (type(deployer).__name__, deployer.flow_file)


def shown_flow(deployed: Any) -> str:
    """Return the ``repr`` of a deployed flow; it asks no orchestrator."""
    return "%s(%r, flow=%r)" % (type(deployed).__name__, deployed.deployer.name, deployed.deployer.flow_name)


def shown_run(run: Any) -> str:
    """Return the ``repr`` of a triggered run; it asks no orchestrator."""
    return "%s(%r)" % (type(run).__name__, run.pathspec)


def started_run(deployer: Any, verb: str, **kwargs: Any) -> str:
    """Call a verb that starts a run, and return what it tells of the run, as JSON.

    :param deployer: Metaflow's deployer of the flow.
    :param verb: name of the verb, in the form of Python.
    :param kwargs: its options.
    """
    from metaflow.runner.utils import handle_timeout, temporary_fifo

    with temporary_fifo() as (path, descriptor):
        process = _call(deployer, verb, deployer_attribute_file=path, **kwargs)
        content: str = handle_timeout(descriptor, process, deployer.file_read_timeout)
        process.sync_wait()
        if process.process.returncode != 0:
            raise subprocess.SubprocessError("%s of %s on %s failed." % (verb, deployer.name, deployer.TYPE))
        return content


def resume_options(origin: str, step: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of the verb that resumes a run.

    :param origin: run id or pathspec of the run to resume.
    :param step: step to run again, None for those that failed.
    :param given: parameters of the flow.
    """
    rerun = {} if step is None else {"step_to_rerun": step}
    return {**given, **rerun, "run_id": origin.rpartition("/")[2]}


def given_options(function: Callable[..., Any], values: dict[str, Any], **renamed: str) -> dict[str, Any]:
    """Return the options that a caller has set; all others are left to the command line.

    :param function: a method whose keyword parameters are options.
    :param values: its local variables at its begin.
    :param renamed: present names of options by those that they had in release 0.1.
    """
    options = {**values, **{renamed.get(name, name): value for name, value in values["kwargs"].items()}}
    known = signature(function).parameters
    unset = {name for name, one in known.items() if options[name] == one.default}
    return {name: value for name, value in options.items() if name not in {"self", "kwargs", *unset}}


def show_to_stubs(deployer: Any, flow: str) -> None:
    """Give ``create`` a signature that ``metaflow develop stubs install`` can write down.

    It takes no ``**kwargs`` after keywords, and needs the path of a type that is not imported at run time.

    :param deployer: a deployer of this package.
    :param flow: module and name of its deployed flows.
    """
    found = signature(deployer.create)
    shown = [one for one in found.parameters.values() if one.kind is not Parameter.VAR_KEYWORD]
    deployer.create.__signature__ = found.replace(parameters=shown, return_annotation=flow)
    deployer.deployed_flow_type.__annotations__["return"] = type


def run_verb(deployer: Any, verb: str, **kwargs: Any) -> bool:
    """Call a verb, and tell whether it was successful.

    :param deployer: Metaflow's deployer of the flow.
    :param verb: name of the verb, in the form of Python.
    :param kwargs: its options.
    """
    process = _call(deployer, verb, **kwargs)
    process.sync_wait()
    return bool(process.process.returncode == 0)


def _call(deployer: Any, verb: str, **kwargs: Any) -> Any:
    from metaflow.runner.utils import get_lower_level_group

    group = get_lower_level_group(deployer.api, deployer.top_level_kwargs, deployer.TYPE, deployer.deployer_kwargs)
    command = getattr(group, verb)(**kwargs)
    pid = deployer.spm.run_command(
        [sys.executable, *command], env=deployer.env_vars, cwd=deployer.cwd, show_output=deployer.show_output
    )
    return deployer.spm.get(pid)
