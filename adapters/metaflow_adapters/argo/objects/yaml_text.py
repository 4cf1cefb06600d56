"""Plain data as YAML that people can read and that is the same for equal data."""

from __future__ import annotations

import re

import yaml

from metaflow_orchestration.containers.objects import KubernetesObject

_UNUSUAL = re.compile("[^\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks, which people can read."""


def _text(dumper: yaml.SafeDumper, data: str) -> yaml.ScalarNode:
    # Further line breaks of YAML 1.1, which PyYAML writes as they are and reads as blanks, and what is not printable.
    style = '"' if _UNUSUAL.search(data) else "|" if "\n" in data else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _text)


def to_yaml(document: KubernetesObject) -> str:
    """Return plain data as YAML in its own order.

    :param document: JSON types.
    """
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=10**6, allow_unicode=True)
    return text
