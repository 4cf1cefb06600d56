"""Pages of the site that are files of the repository: the start page, and how to contribute, report and release."""

from __future__ import annotations

import re
from pathlib import Path

SOURCE = "https://github.com/airflow-provider-metaflow/airflow-provider-metaflow/blob/main/"
_RAW = "https://raw.githubusercontent.com/airflow-provider-metaflow/airflow-provider-metaflow/main/"
FILES = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "threat-model.md": "SECURITY.md",
}


def pages(root: Path) -> dict[str, str]:
    """Return the pages by their names on the site.

    :param root: the repository.
    """
    return {page: _with_links_of_the_site((root / file).read_text(encoding="utf-8")) for page, file in FILES.items()}


def with_links_out(text: str) -> str:
    """Return a page of ``docs`` whose links to other folders of the repository lead there.

    :param text: Markdown.
    """
    names = {file: page for page, file in FILES.items()}
    return re.sub(r"\]\(\.\./([^)\s]+)\)", lambda found: f"]({names.get(found[1]) or SOURCE + found[1]})", text)


def _with_links_of_the_site(text: str) -> str:
    names = {file: page for page, file in FILES.items()}

    def link(found: re.Match[str]) -> str:
        target = found[1].removeprefix(SOURCE).removeprefix(_RAW)
        path, hash_sign, anchor = target.partition("#")
        if path in names:
            return f"]({names[path]}{hash_sign}{anchor})"
        if path.startswith("docs/"):
            return f"]({path.removeprefix('docs/')}{hash_sign}{anchor})"
        return f"]({found[1] if '://' in found[1] or not path else SOURCE + target})"

    return re.sub(r"\]\(([^)\s]+)\)", link, text)
