"""Reads lists that were written into a cell of text: by pandas, by print, or with separators."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

NUMPY = re.compile(r"\[\s*((?:\d+\.?|True|False)\s*)+\]")
NUMPY_TEXTS = re.compile(r"['\"]\s+['\"]")  # Python would join the two
# `tensor([0, 1])`, `array(['a'], dtype=object)`, `set()`, `Index([...], name='x')`
WRAPPED = re.compile(
    r"(?:\w+\.)?(?:array|tensor|Index|Series|list|tuple|set|frozenset)\((.*)\)", re.DOTALL
)
OPTIONS = re.compile(r",\s*(?:dtype|device|name|length|shape)\s*=[^\[\]]*$")
BRACKETS = re.compile(r"[\[({].*[\])}]", re.DOTALL)
PLAIN_NAME = re.compile(r"[\[({][^,.'\"\[\](){}]*[\])}]")  # [urgent], (none)
SEPARATED_BITS = re.compile(r"[01](\s*[,;|]\s*|\s+)[01](?:\1[01])*")
OBJECT = re.compile(r"\{\s*['\"]|\[\s*\{\s*['\"]")
JOINED_BITS = re.compile(r"[01]{3,}")


def looks_like_list(cell: Any) -> bool:
    """Whether a text stands in brackets."""
    if not isinstance(cell, str):
        return False
    text = cell.strip()
    return bool(BRACKETS.fullmatch(text) or WRAPPED.fullmatch(text))


def begins_list(cell: str) -> bool:
    """Whether a text begins as a list of texts, which may be cut off."""
    return re.match(r"\s*\[\s*['\"]", cell) is not None


def is_plain_name(cell: str) -> bool:
    """Whether a text in brackets is a name and no list."""
    return PLAIN_NAME.fullmatch(cell.strip()) is not None


def list_of(cell: Any) -> list[Any] | None:
    """The list that a text holds; None where it is none."""
    if not looks_like_list(cell):
        return None
    text = cell.strip()
    if wrapped := WRAPPED.fullmatch(text):
        text = OPTIONS.sub("", wrapped[1].strip()) or "[]"
    if NUMPY.fullmatch(text):
        text = f"[{', '.join(text[1:-1].split())}]"
    if NUMPY_TEXTS.search(text):
        return None
    text = re.sub(r"\btrue\b", "True", re.sub(r"\bfalse\b", "False", text))
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(value, list | tuple | set):
        return None
    if not all(isinstance(part, str | int | float) for part in value):
        return None
    return sorted(value, key=str) if isinstance(value, set) else list(value)


def holds_object(cell: Any) -> bool:
    """Whether a text is an object, or a list of objects, as JSON or Python writes it."""
    text = cell.strip() if isinstance(cell, str) else ""
    if not OBJECT.match(text) or text[-1] not in "}]":
        return False
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        return isinstance(value, dict) or (isinstance(value, list) and isinstance(value[0], dict))
    return False


def separated_bits(cells: list[Any]) -> list[list[str]] | None:
    """Cells such as `0 1 1` or `0;1;1` as lists; None where not all are of one form and length.

    Two with a comma between them may be a number.
    """
    lists, separators = [], set()
    for cell in cells:
        match = SEPARATED_BITS.fullmatch(cell.strip()) if isinstance(cell, str) else None
        if match is None:
            return None
        separators.add(match[1].strip() or " ")
        lists.append(re.findall("[01]", cell))
    widths = {len(bits) for bits in lists}
    if len(widths) != 1 or len(separators) != 1:
        return None
    return lists if max(widths) > 2 or separators != {","} else None


def joined_bits(cells: list[Any]) -> bool:
    """Whether all cells are digits 0 and 1, equally many and without a separator: `011`."""
    texts = [cell for cell in cells if isinstance(cell, str) and JOINED_BITS.fullmatch(cell)]
    same = len({len(text) for text in texts}) == 1
    return same and len(texts) == len(cells) and any(text[0] == "0" for text in texts)
