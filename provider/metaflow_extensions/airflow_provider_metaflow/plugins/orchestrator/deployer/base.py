"""What the Deployers of all orchestrators do alike. Loaded at every ``import metaflow``: Metaflow only.

A Deployer of an orchestrator is three classes, each with one of these in front of Metaflow's own: the deployer, whose
``create`` has the options of the command line, the deployed flow, and the triggered run. Public methods stand in those
classes with their own signatures and texts, which ``metaflow develop stubs install`` writes down.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from textwrap import dedent, indent
from typing import Any, ClassVar, TypeVar

from .calls import given_options, started_run

Run = TypeVar("Run")
"""A class of triggered runs."""

SHARED_TEXTS = {
    "owner_options": """
        authorize : str, optional, default None
            Authorize with this production token. Needed to deploy a flow of somebody else for the first time.
        generate_new_token : bool, optional, default False
            Generate a new production token for this flow, which moves it to a new namespace.
        given_token : str, optional, default None
            Use this production token for this flow, which moves it to its namespace.
        tags : List[str], optional, default None
            Annotate all objects produced by the runs with these tags.
        """,
    "code_options": """
        user_namespace : str, optional, default None
            Namespace in which steps look for results of other flows, by default that of the production token.
        project_root : str, optional, default None
            Folder that the flow is started from, e.g. the root of its repository; by default that of the flow file.
        """,
    "notify_options": """
        notify_on_error : bool, optional, default False
            Notify if a run fails.
        notify_on_success : bool, optional, default False
            Notify if a run succeeds.
        """,
    "alert_options": """
        incident_io_alert_source_config_id : str, optional, default None
            Alert source of incident.io.
        incident_io_metadata : List[str], optional, default None
            Metadata of the alerts of incident.io, each in the form KEY=VALUE.
        """,
}
"""Texts of options that each ``create`` has; its docstring holds their names in braces, each on a line of its own."""


class OrchestratorDeployer:
    """What ``Deployer("flow.py").<orchestrator>()`` does on each of them.

    Example: ``class ArgoDeployer(OrchestratorDeployer, ArgoWorkflowsDeployer)``.
    """

    _renamed: ClassVar[Mapping[str, str]] = {}
    """Present names of options of ``create`` by those that they had in release 0.1."""

    def __repr__(self) -> str:
        """Return the class and the flow file."""
        return "%s(%r)" % (type(self).__name__, self.flow_file)  # type: ignore[attr-defined]

    def _create_given(self, values: dict[str, Any]) -> Any:
        """Deploy the flow with the options that the caller of ``create`` has set.

        :param values: local variables of ``create`` at its begin.
        """
        kind: Any = self
        options = given_options(kind.create, values, **self._renamed)
        return kind._create(kind.deployed_flow_type(), **options)


class OrchestratorRun:
    """What a triggered run does on each orchestrator."""

    def __repr__(self) -> str:
        """Return the class and the run; no orchestrator is asked."""
        return "%s(%r)" % (type(self).__name__, self.pathspec)  # type: ignore[attr-defined]

    @property
    def _run_id(self) -> str:
        return str(self.pathspec).split("/")[1]  # type: ignore[attr-defined]


class OrchestratorFlow:
    """What a deployed flow does on each orchestrator."""

    def __repr__(self) -> str:
        """Return the class, the deployment and the flow; no orchestrator is asked."""
        one: Any = self
        return "%s(%r, flow=%r)" % (type(self).__name__, one.deployer.name, one.deployer.flow_name)


def started(kind: Callable[..., Run], deployer: Any, verb: str, options: dict[str, Any]) -> Run:
    """Start a run and return it.

    :param kind: class of triggered runs.
    :param deployer: Metaflow's deployer of the flow.
    :param verb: the verb that starts it.
    :param options: options of the verb.
    """
    return kind(deployer=deployer, content=started_run(deployer, verb, **options))


def resumed(
    kind: Callable[..., Run], deployer: Any, origin: str, step_to_rerun: str | None, options: dict[str, Any]
) -> Run:
    """Start a run that clones the finished tasks of another one, and return it.

    :param kind: class of triggered runs.
    :param deployer: Metaflow's deployer of the flow.
    :param origin: the other run, with or without the name of the flow, which the command line checks.
    :param step_to_rerun: step to run again, None for those that failed.
    :param options: parameters of the flow, and options of the verb.
    """
    rerun = {} if step_to_rerun is None else {"step_to_rerun": step_to_rerun}
    # By the option, not the argument: where Airflow's verb has an argument, it is for going on in place.
    return started(kind, deployer, "resume", {**options, **rerun, "origin_run_id": origin})


def found_run(kind: Callable[..., Run], deployer: Any, name: str, run_id: str) -> Run:
    """Return a run that is known by its id.

    :param kind: class of triggered runs.
    :param deployer: Metaflow's deployer of the flow.
    :param name: name that the run is shown under.
    :param run_id: Metaflow run id, alone or behind the flow's name and a slash.
    """
    pathspec = "%s/%s" % (deployer.flow_name, run_id.rpartition("/")[2])
    return kind(
        deployer=deployer, content=json.dumps({"name": name, "metadata": deployer.metadata, "pathspec": pathspec})
    )


def show_to_stubs(deployer: Any, flow: str) -> None:
    """Give ``create`` a text and a signature that ``metaflow develop stubs install`` can write down.

    It takes no ``**kwargs`` after keywords, and needs the path of a type that is not imported at run time.

    :param deployer: a deployer of this package.
    :param flow: module and name of its deployed flows.
    """
    found = signature(deployer.create)
    shown = [one for one in found.parameters.values() if one.kind is not Parameter.VAR_KEYWORD]
    deployer.create.__signature__ = found.replace(parameters=shown, return_annotation=flow)
    deployer.create.__doc__ = _with_shared_texts(deployer.create.__doc__ or "")
    deployer.deployed_flow_type.__annotations__["return"] = type


def _with_shared_texts(text: str) -> str:
    def replace(found: re.Match[str]) -> str:
        return indent(dedent(SHARED_TEXTS[found[2]]).strip("\n"), found[1])

    return re.sub(r"^( *)\{(\w+)\}$", replace, text, flags=re.MULTILINE)
