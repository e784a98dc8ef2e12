"""Aligns columns and formats figures and cells, for the terminal and for Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

COLUMNS = 80  # of the terminal; words are never broken
LONGEST_LABEL = 40  # characters of a label on the terminal


def aligned(rows: list[list[str]], side: str = ">") -> Iterator[str]:
    """The first column to the left, the others to the right, or where `side` says."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = [f"{cell:{side}{width}}" for cell, width in zip(others, widths[1:], strict=True)]
        yield "  ".join([f"{first:<{widths[0]}}", *cells]).rstrip()


def with_interval(name: str, figures: dict[str, Any]) -> str:
    """A metric of a split in `metrics.json`, and its interval if it has one."""
    value, between = figures["metrics"][name], figures["intervals"].get(name)
    shown = [value] if between is None else [value, *between]
    largest = max(0 if v is None else abs(v) for v in shown)
    texts = [number(v, ".1e" if _is_tiny(largest) else ".3f") for v in shown]
    return texts[0] if between is None else f"{texts[0]} [{texts[1]}, {texts[2]}]"


def cell(text: str) -> str:
    """A text in a table of Markdown."""
    return " ".join(text.split()).replace("|", "\\|").replace("`", "'").replace("<", "&lt;")


def number(value: float | None, form: str | None = None) -> str:
    """Three decimals; large numbers without, and two digits of tiny ones.

    Args:
        form: of a number that stands beside others.
    """
    if value is None:
        return "undefined"
    if form is None:
        form = ".1e" if _is_tiny(value) else ",.0f" if abs(value) >= 1000 else ".3f"
    return f"{value:{form}}"


def _is_tiny(value: float) -> bool:
    """Whether three decimals show nothing of it."""
    return 0 < abs(value) < 0.0005


def percent(share: float) -> str:
    """A share of 1 with one decimal; of something that is little, not zero."""
    return "<0.1%" if 0 < share < 0.001 else f"{100 * share:.1f}%"


def seconds(duration: float) -> str:
    """Seconds as hours, minutes or seconds."""
    if duration < 60:
        return f"{duration:.1f} s" if duration < 10 else f"{duration:.0f} s"
    minutes, rest = divmod(round(duration), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def wrapped(line: str, indent: int | None = None, most: int | None = None) -> Iterator[str]:
    """A line of text in lines of at most `COLUMNS` characters, words whole.

    Args:
        indent: of the lines after the first; None: two more than the first has.
        most: lines, the last of which ends with … where there is more; None: as many as it takes.
    """
    indent = len(line) - len(line.lstrip()) + 2 if indent is None else indent
    yield from textwrap.wrap(
        line,
        COLUMNS,
        subsequent_indent=" " * indent,
        break_long_words=most is not None,
        break_on_hyphens=False,
        max_lines=most,
        placeholder=" …",
    )


def shortened(label: str) -> str:
    """A name that fits into a table of the terminal: on one line, and not too long."""
    label = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in label)
    label = label if label == label.strip() else repr(label)
    return label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 1]}…"
