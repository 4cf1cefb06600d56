"""The policies of `docs/batch`, with the names of the tests in the place of those in capitals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "docs/batch"


def documented_policy(name: str, **names: str) -> dict[str, Any]:
    """Return a policy of the documentation.

    :param name: of its file.
    :param names: what stands for the names in capitals, in this order.
    """
    text = (FOLDER / f"{name}.json").read_text()
    for placeholder, value in {**names, "JOBS": "jobs", "EXECUTION": "execution"}.items():
        text = text.replace(placeholder, value)
    found: dict[str, Any] = json.loads(text)
    return found
