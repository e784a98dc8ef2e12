"""One source of labelled texts in the columns of this package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any


def no_lines(rows: Sequence[int]) -> dict[int, int]:
    """Of a source that has no lines."""
    del rows
    return {}


@dataclass(frozen=True)
class Table:
    """One source in our columns; labels as they stand there, a `ClassLabel`'s by name.

    Without labels, `labels` is empty.
    """

    source: str
    texts: Sequence[Any]
    pairs: Sequence[Any] | None
    """The second texts."""
    labels: Sequence[Any]
    order: tuple[str, ...] | None
    """Of the labels, where a `ClassLabel` says so."""
    extra: dict[str, list[Any]]
    """`source` and `row`, and columns to slice by, by our name."""
    total: int
    """Rows of the source, before any was taken out."""
    lines: Callable[[Sequence[int]], dict[int, int]] = no_lines
    """The line on which each of some rows (from 1 on) begins."""

    def select(self, rows: Sequence[int]) -> Table:
        """Some of its rows."""
        pairs = None if self.pairs is None else [self.pairs[i] for i in rows]
        texts = [self.texts[i] for i in rows]
        labels = [self.labels[i] for i in rows] if self.labels else []
        extra = {name: [cells[i] for i in rows] for name, cells in self.extra.items()}
        return replace(self, texts=texts, pairs=pairs, labels=labels, extra=extra)

    def without(self, rows: Sequence[int]) -> Table:
        """All but some of its rows."""
        if not rows:
            return self
        left_out = set(rows)
        return self.select([i for i in range(len(self.texts)) if i not in left_out])
