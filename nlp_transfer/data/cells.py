"""What a cell of a table may be: one rule for texts and labels, in every command."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

# Spaces, and what no screen shows: control and zero-width characters, direction marks, soft
# hyphens, tags.
INVISIBLE = "\x00-\x1f\x7f-\x9f\ufff9-\ufffb\U000e0000-\U000e0fff"
INVISIBLE += "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e"
INVISIBLE += "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\u2800"
VISIBLE = re.compile(rf"[^\s{INVISIBLE}]")
ZERO_WIDTH = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]")
HALF = re.compile("[\ud800-\udfff]")
KINDS = {
    dict: "an object",
    list: "a list",
    bytes: "bytes",
    bool: "true or false",
    int: "a number",
    float: "a number",
    Decimal: "a number",
}


def is_blank(text: Any) -> bool:
    """Whether there is nothing to read: no cell, spaces, or zero-width characters alone."""
    return text is None or (isinstance(text, str) and VISIBLE.search(text) is None)


def about_half(text: str) -> str | None:
    """The error for a text with half of a surrogate pair, which no file and no tokenizer can hold.

    Python gets them from JSON (`\\ud83d`) and from a text that was cut inside an emoji.
    """
    half = None if text.isascii() else HALF.search(text)
    if half is None:
        return None
    return (
        f"{ascii(half[0])[1:-1]} is half of a character, as in an emoji that was cut in two. "
        "Remove it, or write the whole character."
    )


def kind_of_cell(cell: Any) -> str:
    """What a cell is, in words: `a list`, `a number`, `a date`."""
    name = next((words for kind, words in KINDS.items() if isinstance(cell, kind)), None)
    return name or f"a {type(cell).__name__}"


def not_texts(cells: Sequence[Any]) -> list[int]:
    """The rows whose cell is something, and no text."""
    return [i for i, cell in enumerate(cells) if cell is not None and not isinstance(cell, str)]


def blank_rows(cells: Sequence[Any]) -> list[int]:
    """The rows whose cell has nothing to read."""
    return [i for i, cell in enumerate(cells) if is_blank(cell)]


def plain_label(cell: Any) -> Any:
    """A label as Python's own text, number or list of these; None where there is none."""
    if isinstance(cell, Decimal):
        cell = _of_decimal(cell)
    if isinstance(cell, float) and math.isnan(cell):
        return None
    if isinstance(cell, list | tuple):
        return [plain_label(part) for part in cell]
    return None if isinstance(cell, str) and is_blank(cell) else cell


def _of_decimal(cell: Decimal) -> int | float | str:
    """A number that Python prints with the same digits; text where none has them all."""
    if cell.is_finite() and cell.as_tuple().exponent == 0:
        return int(cell)  # the integers of a database
    number = float(cell)
    same = not cell.is_finite() or Decimal(repr(number)) == cell
    return number if same else str(cell)


def is_label(cell: Any) -> bool:
    """Whether a cell can be a label: a text, a number, true or false, or a list of these."""
    if isinstance(cell, list):
        return all(not isinstance(part, list) and (part is None or is_label(part)) for part in cell)
    return isinstance(cell, str | int | float)


def fields_of(cell: Any, column: str) -> str:
    """How a field of an object is named: `label.name`; of lists of objects where the texts are."""
    if isinstance(cell, list):
        paths = set(_lists_of_texts(cell, f"row[{column!r}]"))
        if len(paths) != 1:
            return ""
        return f" The texts are in {paths.pop()}: write these into a column of their own."
    if not isinstance(cell, dict) or not cell:
        return ""
    names = [f"{column}.{field}" for field in list(cell)[:2]]
    several = f", or several: [{','.join(names)}]" if len(names) > 1 else ""
    return f" Name one of its fields, as in {names[0]}{several}."


def _lists_of_texts(cell: Any, path: str) -> Iterator[str]:
    """Where lists of texts are inside a cell, by the first object of each list."""
    if isinstance(cell, dict):
        for name, value in cell.items():
            yield from _lists_of_texts(value, f"{path}[{name!r}]")
    elif isinstance(cell, list) and cell:
        if all(isinstance(part, str) for part in cell):
            yield path
        else:
            yield from _lists_of_texts(cell[0], f"{path}[0]")


def label_key(label: Any) -> Any:
    """What is left of a label without case, repeated spaces, zero-width characters, in NFKC."""
    if not isinstance(label, str):
        return label
    visible = ZERO_WIDTH.sub("", unicodedata.normalize("NFKC", label))
    return " ".join(visible.split()).casefold() or label
