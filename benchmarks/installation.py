"""A Metaflow of its own for a benchmark; import it before anything that imports Metaflow."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
HOME = Path(tempfile.mkdtemp(prefix="metaflow-bench-"))

sys.path.insert(0, str(ROOT))
os.environ.update(
    AWS_ACCESS_KEY_ID="k", AWS_SECRET_ACCESS_KEY="s", AWS_DEFAULT_REGION="us-east-1", METAFLOW_USER="bench",
    METAFLOW_HOME=str(HOME / "config"), AWS_EC2_METADATA_DISABLED="true",
)  # fmt: skip


def printed_json(output: str) -> Any:
    """Return the JSON that a command has printed, after lines of Metaflow's own."""
    return json.loads(output[re.search(r"^[\[{]", output, re.MULTILINE).start() :])  # type: ignore[union-attr]
