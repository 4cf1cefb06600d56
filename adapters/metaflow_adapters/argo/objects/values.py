"""Texts of users as values of Argo's parameters, where nothing in them is taken for a reference.

Argo's controller puts values into the arguments of a workflow before it starts it (``substituteGlobalVariables``). What
follows ``{{=`` must be an expression that it can read: a run with ``{{=1+}}`` in a parameter, or in its description,
stays pending for ever, without a message. So a value that holds ``{{`` is encoded, and ``placed_task.py`` decodes it.
"""

from __future__ import annotations

import base64

SEAL = "metaflow-base64:"
"""What an encoded value begins with; ``placed_task.py`` of the extension knows it."""

_OPEN = "{{"


def sealed(text: str) -> str:
    """Return a value as it is given to Argo: as it is, or encoded if Argo would look into it.

    :param text: the value, in the text form of Metaflow's command line.
    """
    if _OPEN not in text and not text.startswith(SEAL):
        return text
    return SEAL + base64.b64encode(text.encode()).decode()


def unsealed(value: str) -> str:
    """Return the text of a value that stands in a workflow.

    :param value: the value.
    """
    return base64.b64decode(value.removeprefix(SEAL)).decode() if value.startswith(SEAL) else value


def harmless(text: str) -> str:
    """Return a description in which Argo finds no reference.

    :param text: a text that only people read.
    """
    return text.replace(_OPEN, "{ {")


def sealing(variable: str) -> str:
    """Return a Go template of Argo Events that writes what :func:`sealed` returns.

    An empty text is encoded, too: Argo Events takes the default where a template writes nothing.

    :param variable: name of the template's variable that holds the text.
    """
    opened = r'"\x7b\x7b"'
    condition = f'or (not {variable}) (contains {opened} {variable}) (hasPrefix "{SEAL}" {variable})'
    encoded = f"{SEAL}{{{{ b64enc {variable} }}}}"
    return f"{{{{ if {condition} }}}}{encoded}{{{{ else }}}}{{{{ {variable} }}}}{{{{ end }}}}"
