"""Cuts a split into parts that may fare differently: by text length and by columns of the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from datasets import Dataset

LENGTH = "text length"
LENGTHS = 4  # parts with about as many rows each
MOST = 20  # values of a column; the rarest share one slice
EMPTY = "(empty)"

# By what (a column, or the text length), then by value: int [rows of the slice].
Slices = dict[str, dict[str, np.ndarray]]


def slices_of(rows: Dataset, columns: Sequence[str]) -> Slices:
    """The rows of every slice of a split."""
    from nlp_transfer.data.corpus import SLICE_PREFIX  # imports datasets

    columns_of_text = [rows[name] for name in ("text", "text_pair") if name in rows.column_names]
    lengths = [sum(map(len, texts)) for texts in zip(*columns_of_text, strict=True)]
    found = {LENGTH: _by_length(np.array(lengths))}
    for column in columns:
        found[column] = _by_value(list(rows[f"{SLICE_PREFIX}{column}"]))
    return found


def _by_length(lengths: np.ndarray) -> dict[str, np.ndarray]:
    """Quarters of the texts, by characters; fewer where many are equally long."""
    borders = np.unique(np.quantile(lengths, np.arange(1, LENGTHS) / LENGTHS, method="lower"))
    parts = np.searchsorted(borders, lengths)
    found = {}
    for part in np.unique(parts):
        here = np.flatnonzero(parts == part)
        found[f"{lengths[here].min()}-{lengths[here].max()} characters"] = here
    return found


def _by_value(values: list[str]) -> dict[str, np.ndarray]:
    """One slice for each value, the most frequent first."""
    counts = Counter(values)
    common = sorted(counts, key=lambda value: (-counts[value], value))
    if len(common) > MOST:
        common = common[: MOST - 1]
    kept = set(common)
    found = {
        value or EMPTY: np.array([i for i, other in enumerate(values) if other == value])
        for value in common
    }
    others = np.array([i for i, value in enumerate(values) if value not in kept], dtype=int)
    if len(others):
        found[f"({len(counts) - len(common)} rarer values)"] = others
    return found
