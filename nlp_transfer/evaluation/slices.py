"""Slices a split by text length and by columns of the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
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
    from nlp_transfer.data.columns import each_cell
    from nlp_transfer.data.corpus import SLICE_PREFIX  # imports datasets

    names = [name for name in ("text", "text_pair") if name in rows.column_names]
    columns_of_text = [each_cell(rows, name) for name in names]
    each = (sum(map(len, texts)) for texts in zip(*columns_of_text, strict=True))
    lengths = np.fromiter(each, dtype=np.int64, count=len(rows))
    by_column = {column: _by_value(rows[f"{SLICE_PREFIX}{column}"][:]) for column in columns}
    return {LENGTH: _by_length(lengths), **by_column}


def _by_length(lengths: np.ndarray) -> dict[str, np.ndarray]:
    """Quarters of the texts, by characters; fewer where many are equally long."""
    return {
        f"{lengths[rows].min()}-{lengths[rows].max()} characters": rows
        for rows in quantile_parts(lengths, LENGTHS)
    }


def quantile_parts(values: np.ndarray, parts: int) -> Iterator[np.ndarray]:
    """The rows of parts with about as many rows each, by value; fewer where many are equal."""
    borders = np.unique(np.quantile(values, np.arange(1, parts) / parts, method="lower"))
    part_of = np.searchsorted(borders, values)
    for part in np.unique(part_of):
        yield np.flatnonzero(part_of == part)


def _by_value(values: list[str]) -> dict[str, np.ndarray]:
    """One slice for each value, the most frequent first."""
    counts = Counter(values)
    common = sorted(counts, key=lambda value: (-counts[value], value))
    if len(common) > MOST:
        common = common[: MOST - 1]
    column = np.array(values, dtype=object)
    slices = {value or EMPTY: np.flatnonzero(column == value) for value in common}
    rarer = np.flatnonzero([value not in common for value in values])
    if len(rarer):
        slices[f"({len(counts) - len(common)} rarer values)"] = rarer
    return slices
