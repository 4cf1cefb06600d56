"""The extension, as Metaflow sees it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_metaflow_knows_the_extension_by_the_name_of_its_distribution(tmp_path: Path) -> None:
    """Metaflow's uv environment leaves out packages by these names, and uv refuses Metaflow's stand-in for a name."""
    script = "from metaflow.extension_support import extension_info; print(list(extension_info()['installed']))"
    # Metaflow takes a source tree that it finds itself in for another extension.
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['airflow-provider-metaflow']"
