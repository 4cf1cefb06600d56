"""A Git repository whose commits are the versions of a DAG bundle."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

NAME = "versioned"


@dataclass(frozen=True)
class VersionedBundle:
    """The repository, in a folder of its own.

    :param folder: its working tree.
    """

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> VersionedBundle:
        """Make a repository with one commit, without which Airflow cannot read it."""
        made = cls(folder)
        folder.mkdir(parents=True)
        made._git("init", "--quiet", "--initial-branch=main")
        (folder / "README").write_text("DAGs\n")
        made.commit()
        return made

    def commit(self) -> None:
        """Make all that lies in the folder the next version."""
        self._git("add", "--all")
        self._git("-c", "user.name=Ann", "-c", "user.email=ann@example.org", "commit", "--quiet", "--message=dags")

    def _git(self, *arguments: str) -> None:
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        subprocess.run(["git", *arguments], cwd=self.folder, check=True, env=environment)


def bundle_config(bundle: VersionedBundle) -> str:
    """Return Airflow's configuration of its DAG folder and this bundle beside it.

    :param bundle: the repository.
    """
    versioned = {"repo_url": str(bundle.folder), "tracking_ref": "main", "refresh_interval": 5}
    return json.dumps(
        [
            {"name": "dags-folder", "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle", "kwargs": {}},
            {"name": NAME, "classpath": "airflow.providers.git.bundles.git.GitDagBundle", "kwargs": versioned},
        ]
    )
