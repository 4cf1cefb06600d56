"""What MkDocs calls while it builds the site: adds the generated pages, and shows links of the repository as links of the site."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))

from mkdocs.structure.files import File  # noqa: E402

from site_pages import GENERATED, commands, configuration, errors, included  # noqa: E402

# Docstrings are written for Sphinx, whose roles Markdown shows as text.
_ROLE = re.compile(r":(?:class|func|meth|mod|attr|exc|data):<code>~?([^<]*)</code>")


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages."""
    generated = {
        "cli.md": commands.page(),
        "configuration.md": configuration.page(),
        "troubleshooting.md": errors.page(ROOT),
        **included.pages(ROOT),
    }
    for name in GENERATED:
        files.append(File.generated(config, name, content=generated[name]))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Lead links to files outside of the site to the repository."""
    return included.with_links_out(markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Show roles of docstrings as code."""
    return _ROLE.sub(r"<code>\1</code>", html)
