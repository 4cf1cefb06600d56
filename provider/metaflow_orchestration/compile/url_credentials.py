"""Credentials inside of URLs (``https://user:password@host``), which go into no manifest."""

from __future__ import annotations

import re

_IN_URL = re.compile(
    # A user without a password is a token on the web (`https://ghp_…@github.com`), and just a name elsewhere (`ssh`).
    r"(?P<web>(?<![a-z0-9])(?:[a-z][a-z0-9.-]*\+)?https?://)[^/?#\s\"']+@"
    r"|(?P<other>(?<![a-z0-9])[a-z][a-z0-9+.-]*://)[^/?#\s@:\"']*:[^/?#\s\"']+@",
    re.IGNORECASE,
)


def has_credentials(text: str) -> bool:
    """Return whether a text holds a URL with credentials.

    :param text: any text.
    """
    return _IN_URL.search(text) is not None


def without_credentials(text: str) -> str:
    """Return a text whose URLs have no credentials.

    :param text: any text.
    """
    return _IN_URL.sub(lambda found: found["web"] or found["other"], text)
