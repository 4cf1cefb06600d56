"""How Metaflow's Deployer calls the command groups of this package."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from inspect import signature
from typing import Any


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
