"""How Metaflow's Deployer calls the command groups of this package."""

from __future__ import annotations

import subprocess
import sys
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


def resume_options(origin: str, step: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of the verb that resumes a run.

    :param origin: run id or pathspec of the run to resume.
    :param step: step to run again, None for those that failed.
    :param given: parameters of the flow.
    """
    rerun = {} if step is None else {"step_to_rerun": step}
    return {**given, **rerun, "run_id": origin.rpartition("/")[2]}


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
