"""The production token of a deployment, of which everybody who may read the DAG sees a proof."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable

from msgspec.structs import replace

from airflow_provider_metaflow.deploy.record import record_of
from airflow_provider_metaflow.plan.record import LINE, record_line
from metaflow_orchestration.compile.token_proof import is_proof_of, make_proof
from metaflow_orchestration.documents.manifest import Manifest

LETTERS = 4
"""Metaflow's own tokens end with as many lower-case letters; what stands before is known."""


def test_what_a_deployment_shows_of_its_token_is_not_guessed_in_an_hour(compiled: Callable[..., Manifest]) -> None:
    manifest = compiled("linear")
    token = manifest.deployment.production_token
    shown = base64.b64decode(record_line(manifest)[LINE.index("{") :].rstrip(">")).decode()
    assert token not in shown
    # No hash that a machine makes a million of in a second.
    for text in (token, f"production:{token}"):
        for kind in ("md5", "sha1", "sha256", "sha512", "blake2b"):
            digest = hashlib.new(kind, text.encode())
            assert digest.hexdigest() not in shown
            assert base64.b64encode(digest.digest()).decode() not in shown
    before = time.process_time()
    make_proof("some-token-abcd", "a")
    assert (time.process_time() - before) * 26**LETTERS > 3600


def test_the_right_token_is_recognized_and_no_other(compiled: Callable[..., Manifest]) -> None:
    manifest = compiled("linear")
    token, record = manifest.deployment.production_token, record_of(manifest)
    assert is_proof_of(record.token_proof, token, record.deployment)
    assert is_proof_of(record.token_proof, f"production:{token}", record.deployment)
    assert not is_proof_of(record.token_proof, token[:-1], record.deployment)
    assert not is_proof_of(record.token_proof, token, "other")
    assert not is_proof_of("", token, record.deployment)


def test_a_proof_of_an_earlier_release_is_recognized_and_one_of_unknown_cost_is_not() -> None:
    # What release 0.1 made of this token: scrypt's cost of 2**15, which the proof does not say.
    earlier = "PQDC9DQiOc/4nIjDp1/qTubQefNlYJOnWhZ0DaNByqI="
    assert is_proof_of(earlier, "some-token-abcd", "a")
    assert not is_proof_of(earlier, "some-token-abce", "a")
    _, _, hashed = make_proof("some-token-abcd", "a").partition(":")
    assert not is_proof_of(f"1:{hashed}", "some-token-abcd", "a")
    assert not is_proof_of(hashed, "some-token-abcd", "a")


def test_the_digest_of_a_deployment_says_nothing_of_its_token(compiled: Callable[..., Manifest]) -> None:
    manifest = compiled("linear")
    token = manifest.deployment.production_token
    environment = {name: value.replace(token, "guess") for name, value in manifest.command.environment.items()}
    guessed = replace(
        manifest,
        deployment=replace(manifest.deployment, production_token="guess"),
        command=replace(manifest.command, environment=environment),
    )
    assert record_of(guessed).digest == record_of(manifest).digest
    other = replace(manifest, deployment=replace(manifest.deployment, owner="somebody-else"))
    assert record_of(other).digest != record_of(manifest).digest
