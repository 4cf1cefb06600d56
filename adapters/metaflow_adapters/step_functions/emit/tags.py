"""Tags of jobs, as AWS Batch takes them (AWS Batch user guide, "Tag restrictions")."""

from __future__ import annotations

import re
from collections.abc import Mapping

from metaflow_orchestration.exceptions import InvalidOptionError

MAX_TAG_KEY, MAX_TAG_VALUE = 128, 256
MAX_TAGS = 50


def tag_problem(name: str, value: str) -> str | None:
    """Return why AWS refuses a tag, None if it does not.

    Metaflow's own check looks at the first character only.

    :param name: its key.
    :param value: its value.
    """
    if not name:
        return "a key has one character at least"
    if name.lower().startswith("aws:"):
        return "names that begin with aws: are kept for AWS"
    if len(name) > MAX_TAG_KEY or len(value) > MAX_TAG_VALUE:
        return f"a key has {MAX_TAG_KEY} characters at most, a value {MAX_TAG_VALUE}"
    bad = next((one for one in name + value if not (one.isalnum() or one.isspace() or one in "+-=._:/@")), None)
    return f"{bad!r} is not allowed in a tag; letters, digits, spaces and + - = . _ : / @ are" if bad else None


def check_tags(given: Mapping[str, str], total: int, *, flow: str, step: str) -> None:
    """Check the tags that a user gave to the jobs of a step.

    :param given: those of ``--aws-batch-tag`` and of ``@batch(aws_batch_tags=…)``.
    :param total: how many tags the jobs have, those that the deployer adds too.
    :param flow: flow to name in an error.
    :param step: step to name in an error.
    :raises InvalidOptionError: naming the tag and the rule.
    """
    for name, value in given.items():
        problem = tag_problem(name, value)
        if problem:
            raise InvalidOptionError(f"its jobs have the tag {name!r}: {value!r}; {problem}.", flow=flow, step=step)
    if total > MAX_TAGS:
        raise InvalidOptionError(
            f"its jobs have {total} tags, and AWS Batch takes {MAX_TAGS}.",
            flow=flow,
            step=step,
            hint="Give fewer with --aws-batch-tag or @batch(aws_batch_tags=…).",
        )


def taggable(value: str) -> str:
    """Return a value with the characters that AWS takes in tags.

    :param value: any text.
    """
    return re.sub(r"[^A-Za-z0-9\s+=._:/@-]", "", value)[:MAX_TAG_VALUE]
