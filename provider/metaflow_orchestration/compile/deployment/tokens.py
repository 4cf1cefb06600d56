"""Production tokens: proof of the right to deploy again under a name. Imports Metaflow.

Same rules and wording as Metaflow's other deployers; unlike its own Airflow group, a token that was given or newly
generated is remembered.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from metaflow_orchestration.exceptions import InvalidOptionError

if TYPE_CHECKING:
    from .names import Name

PLACEHOLDER_TOKEN = "__PLACEHOLDER_PRODUCTION_TOKEN__"  # noqa: S105  (what it says)
"""Stands in for the token where nothing is deployed."""

_STORE = "mf.airflow"
"""Folder of the datastore that Metaflow's own Airflow group uses, so that its tokens are honoured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenOptions:
    """``--authorize``, ``--new-token`` and ``--generate-new-token`` of ``create``."""

    authorize: str | None = None
    given: str | None = None
    generate: bool = False


class Store(Protocol):
    """Where the token of a deployment is kept for all users."""

    target: str
    """What is deployed to, e.g. ``Airflow``."""

    group: str
    """Command group, e.g. ``airflow``."""

    def load(self) -> tuple[str | None, str | None]:
        """Return owner and token, None for both before the first deployment."""

    def save(self, owner: str, token: str) -> None:
        """Keep them."""


class DatastoreStore:
    """Keeps tokens in the flow's datastore, as Metaflow's own Airflow group does.

    :param storage: Metaflow's storage implementation.
    :param name: name of the deployment.
    """

    target, group = "Airflow", "airflow"

    def __init__(self, storage: Any, name: str) -> None:
        self._storage, self._name = storage, name

    def load(self) -> tuple[str | None, str | None]:
        """Return owner and token."""
        return _load(self._storage, self._name)

    def save(self, owner: str, token: str) -> None:
        """Keep owner and token."""
        _save(self._storage, self._name, owner, token)


def resolve_token(obj: Any, name: Name, options: TokenOptions, store: Store | None = None) -> str:
    """Return the production token of a deployment, and remember it.

    :param obj: state of Metaflow's command line.
    :param name: the deployment.
    :param options: what the user asked for.
    :param store: where tokens are kept; the flow's datastore if left out.
    :raises InvalidOptionError: if somebody else deployed the name and the token does not match.
    """
    with _alone(name):
        return _resolve(obj, name, options, store or DatastoreStore(obj.flow_datastore._storage_impl, name.name))


@contextmanager
def _alone(name: Name) -> Iterator[None]:
    """One deployment of a name at a time on this machine: Metaflow writes its token files in place."""
    from metaflow.plugins.aws.step_functions.production_token import _path as token_file

    file = Path(token_file(f".{name.token_prefix}.lock"))
    with ExitStack() as held:
        # A container may have no home, or one that cannot be written; then there is no file to write, either.
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            fcntl.flock(held.enter_context(file.open("a")), fcntl.LOCK_EX)
        yield


def _resolve(obj: Any, name: Name, options: TokenOptions, store: Store) -> str:
    from metaflow.plugins.aws.step_functions.production_token import load_token, store_token
    from metaflow.util import get_username

    owner, previous = store.load()
    if previous is not None:
        presented = _bare(options.authorize) or load_token(name.token_prefix)
        if owner != get_username() and presented != previous:
            raise InvalidOptionError(
                f"{name.name} was deployed to {store.target} by the user {owner}; their production token is needed to "
                "deploy a new version.",
                flow=obj.flow.name,
                hint=f"Ask them for it and call `{store.group} create --authorize TOKEN`.",
            )
    token = _choose(obj, name, options, previous)
    if (owner, previous) != (get_username(), token):
        store.save(get_username(), token)
    # The datastore holds it, too, and its owner needs to show none.
    with suppress(OSError):
        store_token(name.token_prefix, token)
    return token


def stored_token(storage: Any, name: str) -> str | None:
    """Return the production token of a deployment, None if the datastore holds none.

    :param storage: Metaflow's storage implementation.
    :param name: name of the deployment.
    """
    return _load(storage, name)[1]


def _choose(obj: Any, name: Name, options: TokenOptions, previous: str | None) -> str:
    from metaflow.plugins.aws.step_functions.production_token import new_token

    given = _bare(options.given)
    if given and name.is_project:
        raise InvalidOptionError(
            "--new-token is not supported for @projects.",
            flow=obj.flow.name,
            hint="Use --generate-new-token to create a new token.",
        )
    if given:
        return given
    if previous is not None and not options.generate:
        return previous
    generated = new_token(name.token_prefix, previous)
    if generated is None:
        raise InvalidOptionError(
            "--generate-new-token is not supported after using --new-token.",
            flow=obj.flow.name,
            hint="Use --new-token to make a new namespace.",
        )
    return str(generated)


def _bare(token: str | None) -> str | None:
    return token.removeprefix("production:") if token else None


def _path(name: str) -> str:
    return f"{_STORE}/{name}"


def _load(storage: Any, name: str) -> tuple[str | None, str | None]:
    if not storage.is_file([_path(name)])[0]:
        return None, None
    with storage.load_bytes([_path(name)]) as results:
        for _, path, _ in results:
            if path is not None:
                with open(path, encoding="utf-8") as file:  # noqa: PTH123  (a path of Metaflow's own)
                    data = json.load(file)
                return data["owner"], data["production_token"]
    return None, None


def _save(storage: Any, name: str, owner: str, token: str) -> None:
    data = json.dumps({"production_token": token, "owner": owner}).encode()
    storage.save_bytes([(_path(name), BytesIO(data))], overwrite=True)
