"""Tables and cells in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; cells are Markdown themselves."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def code(text: str) -> str:
    """As code in a cell, where a vertical bar would end the cell."""
    return f"`{text}`".replace("|", "\\|")


def prose(text: str) -> str:
    """A sentence as it stands in the code, for a cell or a paragraph of Markdown."""
    parts = text.replace("|", "\\|").split("`")
    parts[::2] = map(_escaped, parts[::2])  # the others are code
    return "`".join(parts)


def _escaped(text: str) -> str:
    return re.sub(r"([<{_*\[])", r"\\\1", text)
