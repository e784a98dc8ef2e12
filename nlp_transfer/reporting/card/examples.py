"""Adds a few rows of the data to a model card, where the configuration asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from nlp_transfer.tokenization.model_inputs import Pairs, Texts
from nlp_transfer.utils.text import cell

TITLE = "\n## Examples from the data\n"
MOST = 6  # rows
LONGEST = 300  # characters


def with_examples(card: str, rows: Iterable[tuple[str, str]]) -> str:
    """The card with these rows (text, label) at its end, or with none."""
    card = card.split(TITLE)[0]
    table = [f"| {cell(text[:LONGEST])} | {cell(label)} |" for text, label in rows]
    if not table:
        return card
    return "\n".join([f"{card}{TITLE}", "| text | label |", "|---|---|", *table, ""])


def shows_examples(card: Path) -> bool:
    """Whether the card shows rows of the data."""
    return card.is_file() and TITLE in card.read_text(encoding="utf-8")


def one_of_each(column: Texts, labels: Sequence[str]) -> list[tuple[str, str]]:
    """The first text (of pairs, both) of every label."""
    if isinstance(column, Pairs):
        texts = [" / ".join(both) for both in zip(column.first, column.second, strict=True)]
    else:
        texts = list(column)
    first = {label: text for text, label in zip(reversed(texts), reversed(labels), strict=True)}
    return [(text, label) for label, text in sorted(first.items())][:MOST]
