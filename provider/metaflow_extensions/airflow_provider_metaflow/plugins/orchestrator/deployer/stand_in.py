"""The Deployer of a flow whose file is not here: of a deployment that was found on its orchestrator."""

from __future__ import annotations

import re
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metaflow.client.core import get_metadata
from metaflow.exception import MetaflowException
from metaflow.runner.deployer import Deployer, generate_fake_flow_file_contents


def stand_in(
    impl: str,
    name: str,
    *,
    flow: str,
    owner: str,
    parameters: Mapping[str, Mapping[str, Any]],
    project: str | None,
    branch: str | None,
    metadata: str | None,
) -> Any:
    """Return Metaflow's deployer of a deployment, over a flow file that has its parameters and no more.

    :param impl: name of the deployer, e.g. ``airflow``.
    :param name: name of the deployment.
    :param flow: name of the flow.
    :param owner: who deployed it; the commands run under that name.
    :param parameters: facts of each parameter, as ``metaflow_adapters.documents.described_parameters`` makes them.
    :param project: name of the ``@project``.
    :param branch: its branch.
    :param metadata: metadata provider of its runs; that of Metaflow's client if None.
    """
    _check_words(flow, parameters, project)
    contents = generate_fake_flow_file_contents(
        flow_name=flow, param_info={key: _quoted(one) for key, one in parameters.items()}, project_name=project
    )
    with tempfile.NamedTemporaryFile("w", suffix=".py", delete=False, encoding="utf-8") as file:
        file.write(contents)
    options = {} if project is None else _branch_options(branch)
    make = getattr(Deployer(file.name, env={"METAFLOW_USER": owner}, **options), impl)
    made = make(name=name) if project is None else make()
    # Commands read the file as long as the deployer is used, and no longer.
    weakref.finalize(made, Path(file.name).unlink, missing_ok=True)
    made.name, made.flow_name = name, flow
    made.metadata = get_metadata() if metadata is None else metadata
    return made


def _check_words(flow: str, parameters: Mapping[str, Mapping[str, Any]], project: str | None) -> None:
    """Check what becomes Python source below: it comes from a server, and must not bring code along."""
    facts = parameters.values()
    names = [flow, *(one["python_var_name"] for one in facts), *(one["type"] for one in facts)]
    words = [project or "x", *(word for one in facts for word in (one["name"], one.get("encoding") or "x"))]
    if not all(name.isidentifier() for name in names) or not all(re.fullmatch(r"[\w.-]+", word) for word in words):
        raise MetaflowException("The deployment record of *%s* is damaged. Deploy it again." % flow)


def _quoted(fact: Mapping[str, Any]) -> dict[str, Any]:
    # It is put between triple quotes.
    description = (fact["description"] or "").replace("\\", "\\\\").replace("'", "\\'")
    return {
        "encoding": "utf-8",
        **fact,
        "description": description,
        "is_required": bool(fact["is_required"]),
        "is_text": bool(fact.get("is_text", True)),
    }


def _branch_options(branch: str | None) -> dict[str, Any]:
    """Return the top-level options that lead to a branch; the inverse of ``@project``."""
    kind, _, name = (branch or "").partition(".")
    if kind == "prod":
        return {"production": True, **({"branch": name} if name else {})}
    if kind == "test":
        return {"branch": name}
    # `user.ann` is the branch of the owner, whose name the commands run under.
    return {}
