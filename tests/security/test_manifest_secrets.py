"""A manifest lies in a folder of DAG files that many can read: no credentials get into it by themselves."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from metaflow_orchestration.compile.url_credentials import has_credentials, without_credentials
from metaflow_orchestration.documents.manifest import read_manifest, write_atomically

FLOW = """
from metaflow import FlowSpec, environment, resources, step

class SecretFlow(FlowSpec):
    @environment(vars={"API_KEY": "value-of-the-user", "PLAIN": "x"})
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass

if __name__ == "__main__":
    SecretFlow()
"""


@pytest.fixture
def flow(tmp_path: Path) -> Path:
    """A flow in a Git repository whose remote holds a token, as on many CI systems."""
    folder = tmp_path / "flow"
    folder.mkdir()
    (folder / "secret.py").write_text(FLOW)
    (folder / ".git").mkdir()
    remote = "https://gitlab-ci-token:canary-of-git@gitlab.example.com/team/flows.git"
    for command in (["init", "-q"], ["remote", "add", "origin", remote]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder / "secret.py"


def create(flow: Path, target: Path, *top: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, flow.name, "--no-pylint", *top, "airflow", "create", str(target)],
        cwd=flow.parent,
        env={**os.environ, "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(flow.parent.parent / "store"), **environment},
        capture_output=True,
        text=True,
    )


def test_no_credentials_of_the_deploying_machine_get_into_a_manifest(flow: Path, tmp_path: Path, store: object) -> None:
    (tmp_path / "dags").mkdir()
    result = create(
        flow,
        tmp_path / "dags" / "secret.py",
        "--datastore=s3",
        "--with",
        "kubernetes:image=i",
        **store.environment,  # type: ignore[attr-defined]
        METAFLOW_CONDA_SRC="https://someone:canary-of-conda@conda.example.com/channel",
        METAFLOW_CONDA_TOKEN_URL="https://canary-of-token@conda.example.com",
        METAFLOW_CONDA_CHANNELS="conda-forge,https://public.example.com/channel",
        METAFLOW_ARGO_EVENTS_INTERNAL_WEBHOOK_URL="http://hook:canary-of-hook@events.example.com",
    )
    assert result.returncode == 0, result.stdout + result.stderr
    written = {path.name: path.read_text() for path in (tmp_path / "dags").iterdir()}
    assert len(written) >= 2
    assert "canary" not in str(written)
    assert "gitlab.example.com/team/flows" in str(written)
    assert "https://public.example.com/channel" in str(written)
    told = " ".join((result.stdout + result.stderr).split())
    for name in ("METAFLOW_CONDA_SRC", "METAFLOW_CONDA_TOKEN_URL", "METAFLOW_ARGO_EVENTS_WEBHOOK_URL"):
        assert f"{name} is a URL with credentials" in told
    assert "canary" not in told


def test_values_of_environment_stand_once_in_a_manifest(flow: Path, tmp_path: Path) -> None:
    (tmp_path / "dags").mkdir(mode=0o700)
    result = create(flow, tmp_path / "dags" / "secret.py")
    assert result.returncode == 0, result.stdout + result.stderr
    (path,) = (tmp_path / "dags").glob("*.json")
    assert path.read_text().count("value-of-the-user") == 1
    (decorator,) = [one for one in read_manifest(path).graph.step("start").decorators if one.name == "environment"]
    assert decorator.attributes == {"vars": ["API_KEY", "PLAIN"]}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("folder", "umask", "file"),
    [
        (0o700, 0o022, 0o600),
        (0o750, 0o022, 0o640),
        (0o755, 0o022, 0o644),
        (0o755, 0o077, 0o600),
        (0o2775, 0o002, 0o644),
    ],
)
def test_a_manifest_can_be_read_by_those_alone_who_can_read_its_folder(
    tmp_path: Path, folder: int, umask: int, file: int
) -> None:
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags").chmod(folder)
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "dags" / "f.metaflow.json", b"{}")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "dags" / "f.metaflow.json").stat().st_mode) == file


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://user:password@host/path", "https://host/path"),
        ("https://token@host", "https://host"),
        ("a https://u:p@h b http://x:y@z:80/?q=1", "a https://h b http://z:80/?q=1"),
        ("git+https://token@host/repo", "git+https://host/repo"),
        ("postgresql+psycopg://u:p@db/x", "postgresql+psycopg://db/x"),
        ("redis://:p@db", "redis://db"),
        ('{"a": "https://u:p@h"}', '{"a": "https://h"}'),
        ("https://u:p%40@h", "https://h"),
        ("https://u:a@b@host/x", "https://host/x"),
        ("https://u:a:b@host/x", "https://host/x"),
    ],
)
def test_credentials_in_urls_are_found_in_any_text(text: str, clean: str) -> None:
    assert has_credentials(text)
    assert without_credentials(text) == clean
    assert not has_credentials(clean)


@pytest.mark.parametrize(
    "text",
    [
        "https://host/a@b", "https://host:8080/x?mail=a@b.c", "ssh://git@host/repo", "git@host:team/repo", "s3://bucket/k@1",
        "arn:aws:iam::123:role/x", "registry:5000/image@sha256:abc", "me@example.com", "https://host/#a:b@c",
        "conda-forge,https://host/channel", "",
    ],
)  # fmt: skip
def test_what_only_looks_like_credentials_stays(text: str) -> None:
    assert not has_credentials(text)
    assert without_credentials(text) == text
