from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from metaflow_orchestration.documents.manifest import (
    Manifest,
    decode_manifest,
    encode_manifest,
    read_manifest,
    write_atomically,
)
from metaflow_orchestration.exceptions import ManifestError


def test_a_manifest_survives_the_way_to_json_and_back(compiled: Callable[..., Manifest]) -> None:
    manifest = compiled("nested_foreach")
    assert decode_manifest(encode_manifest(manifest), "x") == manifest
    assert encode_manifest(manifest) == encode_manifest(decode_manifest(encode_manifest(manifest), "x"))


def test_equal_manifests_are_equal_as_json_however_their_parts_were_made(compiled: Callable[..., Manifest]) -> None:
    class Made(tuple[str, ...]):
        """Not the empty tuple that there is one of, as Python 3.10 makes them of generators."""

    manifest = compiled("linear")
    deployment = msgspec.structs.replace(manifest.deployment, tags=Made())
    again = msgspec.structs.replace(manifest, deployment=deployment)
    assert encode_manifest(again) == encode_manifest(manifest)
    assert decode_manifest(encode_manifest(again), "x") == manifest


def test_a_manifest_that_was_cut_short_is_refused(compiled: Callable[..., Manifest]) -> None:
    data = encode_manifest(compiled("linear"))
    for length in (0, 10, len(data) // 2, len(data) - 5):
        with pytest.raises(ManifestError, match=r"manifest m\.json is cut short.*airflow create"):
            decode_manifest(data[:length], "m.json")


def test_a_manifest_that_was_edited_is_refused(compiled: Callable[..., Manifest]) -> None:
    data = encode_manifest(compiled("linear")).replace(b'"middle"', b'"muddle"')
    with pytest.raises(ManifestError, match="was edited"):
        decode_manifest(data, "m.json")


def test_a_manifest_of_a_newer_version_is_refused_with_the_mend(compiled: Callable[..., Manifest]) -> None:
    document = json.loads(encode_manifest(compiled("linear")))
    document["schema_version"] = 99
    with pytest.raises(ManifestError, match=r"format version 99.*Install the release"):
        decode_manifest(json.dumps(document).encode(), "m.json")


def test_a_manifest_with_a_field_of_a_wrong_type_is_refused(compiled: Callable[..., Manifest]) -> None:
    document = json.loads(encode_manifest(compiled("linear")))
    document["manifest"]["graph"]["steps"] = "none"
    with pytest.raises(ManifestError, match=r"is damaged.*steps"):
        decode_manifest(json.dumps(document).encode(), "m.json")


def test_a_missing_manifest_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"gone\.metaflow\.json cannot be read"):
        read_manifest(tmp_path / "gone.metaflow.json")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    write_atomically(file, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_no_secret_of_the_deployers_environment_is_in_a_manifest(
    compiled: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAFLOW_SERVICE_HEADERS", '{"x-api-key": "very-secret"}')
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    assert b"very-secret" not in encode_manifest(compiled("static_split"))
