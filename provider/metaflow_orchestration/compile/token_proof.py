"""What a deployment shows of its production token: enough to check a token that somebody gives, too little to guess it.

The secret part of Metaflow's own tokens is four letters (``metaflow.plugins.aws.step_functions.production_token``), so
a plain hash of one is guessed in a second. This one takes about 0.15 s and 32 MiB a guess.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

_COST, _BLOCKS = 2**15, 8


def make_proof(token: str, deployment: str) -> str:
    """Return the proof of a token; the same one each time, so that equal deployments stay equal.

    :param token: the production token, with or without ``production:`` before it.
    :param deployment: name of the deployment, which keeps proofs of equal tokens apart.
    """
    secret = token.removeprefix("production:").encode()
    salt = hashlib.sha256(f"metaflow-deployment:{deployment}".encode()).digest()
    found = hashlib.scrypt(secret, salt=salt, n=_COST, r=_BLOCKS, p=1, maxmem=256 * _COST * _BLOCKS, dklen=32)
    return base64.b64encode(found).decode()


def is_proof_of(proof: str, token: str, deployment: str) -> bool:
    """Return whether a proof is that of a token.

    :param proof: what :func:`make_proof` returned; none is proof of nothing.
    :param token: the token that somebody has given.
    :param deployment: name of the deployment.
    """
    return bool(proof) and hmac.compare_digest(proof, make_proof(token, deployment))
