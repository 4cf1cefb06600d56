"""What a deployment shows of its production token: enough to check a token that somebody gives, too little to guess it.

A token that a user gives (``--new-token``) may be short, so a plain hash of it is guessed in a second. This one takes
about 0.04 s and 8 MiB a guess. A proof of higher cost would be no better: the tokens that Metaflow generates follow
from the name of the deployment (``metaflow.plugins.aws.step_functions.production_token``), and hide nothing from
somebody who knows that; and each flow of a folder of flows is compiled with one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

_BLOCKS = 8
_LOG_COST = 13
"""Binary logarithm of scrypt's cost, which stands in each proof."""

_UNMARKED_LOG_COST = 15
"""That of proofs of earlier releases, which do not say."""


def make_proof(token: str, deployment: str) -> str:
    """Return the proof of a token; the same one each time, so that equal deployments stay equal.

    :param token: the production token, with or without ``production:`` before it.
    :param deployment: name of the deployment, which keeps proofs of equal tokens apart.
    """
    return f"{_LOG_COST}:{_hashed(token, deployment, _LOG_COST)}"


def is_proof_of(proof: str, token: str, deployment: str) -> bool:
    """Return whether a proof is that of a token.

    :param proof: what :func:`make_proof` of this or an earlier release returned; none is proof of nothing.
    :param token: the token that somebody has given.
    :param deployment: name of the deployment.
    """
    cost, _, hashed = proof.rpartition(":")
    log_cost = {"": _UNMARKED_LOG_COST, str(_LOG_COST): _LOG_COST}.get(cost)
    if not hashed or log_cost is None:
        return False
    return hmac.compare_digest(hashed, _hashed(token, deployment, log_cost))


def _hashed(token: str, deployment: str, log_cost: int) -> str:
    secret = token.removeprefix("production:").encode()
    salt = hashlib.sha256(f"metaflow-deployment:{deployment}".encode()).digest()
    cost = 2**log_cost
    found = hashlib.scrypt(secret, salt=salt, n=cost, r=_BLOCKS, p=1, maxmem=256 * cost * _BLOCKS, dklen=32)
    return base64.b64encode(found).decode()
