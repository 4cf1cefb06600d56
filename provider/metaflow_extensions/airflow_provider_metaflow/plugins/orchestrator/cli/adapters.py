"""Modules of ``metaflow_adapters``, whose libraries may be missing where a flow is run."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from metaflow.plugins.aws.step_functions.production_token import load_token

from metaflow_orchestration.exceptions import MissingExtraError


def adapter_of(package: str, libraries: tuple[str, ...], missing: str, extra: str) -> Callable[[str], Any]:
    """Return a function that imports a module of an adapter; its libraries may be missing where a flow is run.

    :param package: name of the adapter.
    :param libraries: modules that its extra brings.
    :param missing: what to say without them.
    :param extra: name of the extra.
    """

    def adapter(module: str) -> Any:
        prepare = getattr(import_module("metaflow_adapters.%s" % package), "prepare_imports", None)
        if prepare is not None:
            prepare()
        try:
            return import_module("metaflow_adapters.%s.%s" % (package, module))
        except ModuleNotFoundError as error:
            if str(error.name).split(".")[0] not in libraries:
                raise
            raise MissingExtraError(missing, hint='pip install "airflow-provider-metaflow[%s]"' % extra) from None

    return adapter


def known_token(token_prefix: str, authorize: str | None) -> str | None:
    """Return the production token that the caller has, bare.

    :param token_prefix: what tokens of the deployment begin with.
    :param authorize: ``--authorize``.
    """
    token = (authorize or load_token(token_prefix) or "").removeprefix("production:")
    return token or None
