"""One source of labelled texts in the columns of this package."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import compress, islice
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
from datasets import Dataset, Value

from nlp_transfer.data.columns import AT_ONCE
from nlp_transfer.data.formats.whole_table import gathered

LARGEST = 1 << 30  # bytes of texts that are cast at once


def no_lines(rows: Sequence[int]) -> dict[int, int]:
    """Of a source that has no lines."""
    del rows
    return {}


class ArrowCells(Sequence[Any]):
    """A column of Arrow as a sequence; a cell is an object of Python only while it is read.

    A list of texts takes sixty bytes a cell more than their letters, and an integer 28.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        self.column = column

    @staticmethod
    def of_texts(texts: Iterable[str]) -> ArrowCells:
        """Texts that are computed one after another."""
        iterator = iter(texts)
        parts = iter(lambda: list(islice(iterator, AT_ONCE)), [])
        return ArrowCells(pa.chunked_array([pa.array(p, pa.string()) for p in parts], pa.string()))

    @staticmethod
    def repeated(text: str, count: int) -> ArrowCells:
        """One text in every row; it is in memory a few times only."""
        chunk = pa.array([text] * min(count, AT_ONCE), pa.string())
        whole, rest = divmod(count, AT_ONCE)
        chunks = [*([chunk] * whole), chunk.slice(0, rest)]
        return ArrowCells(pa.chunked_array(chunks, pa.string()))

    @staticmethod
    def numbered(count: int) -> ArrowCells:
        """The numbers from 1 on."""
        return ArrowCells(pa.chunked_array([pa.array(np.arange(1, count + 1))]))

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, place: Any) -> Any:
        cells = self.column[place]
        return cells.to_pylist() if isinstance(place, slice) else cells.as_py()

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self.column), AT_ONCE):
            yield from self.column.slice(start, AT_ONCE).to_pylist()


def column_of(rows: Dataset, name: str) -> Sequence[Any]:
    """The cells of a column; texts stay in Arrow."""
    feature = rows.features[name]
    is_text = isinstance(feature, Value) and feature.dtype in ("string", "large_string")
    # Rows that were chosen from others lie apart: Arrow makes a piece of each.
    if is_text and rows._indices is None:
        return ArrowCells(rows.data.column(name))
    return rows[name][:]


def dataset_of_arrow(table: pa.Table) -> Dataset:
    """A table as a `Dataset`; without a name of its own, the library would hash a copy of it."""
    return Dataset(table, fingerprint=uuid4().hex)


def filtered(rows: Dataset, keep: np.ndarray) -> Dataset:
    """Some rows of a dataset that is in memory, together: those of its own `select` lie apart.

    Args:
        keep: bool [rows].
    """
    table = rows.data.table

    def parts() -> Iterator[pa.Table]:
        start = 0
        for batch in table.to_batches():
            end = start + len(batch)
            yield pa.Table.from_batches([batch.filter(pa.array(keep[start:end]))], table.schema)
            start = end

    return dataset_of_arrow(gathered(parts))


def _kept(cells: Sequence[Any], keep: np.ndarray) -> Sequence[Any]:
    """Some of the cells; keep: bool [cells]."""
    if isinstance(cells, ArrowCells):
        return ArrowCells(cells.column.filter(pa.array(keep)))
    return list(compress(cells, keep.tolist()))


def joined_cells(parts: Iterable[Sequence[Any]]) -> list[Any] | pa.ChunkedArray:
    """The cells of tables one after another; texts and numbers stay in Arrow."""
    parts = [part for part in parts if len(part)]
    if not all(isinstance(part, ArrowCells) for part in parts):
        return [cell for part in parts for cell in part]
    columns = [part.column for part in parts if isinstance(part, ArrowCells)]
    chunks = [plain for column in columns for chunk in column.chunks for plain in _plain(chunk)]
    return pa.chunked_array(chunks) if chunks else []


def _plain(chunk: pa.Array) -> Iterator[pa.Array]:
    """Large strings as strings, in parts that these can hold."""
    if not pa.types.is_large_string(chunk.type):
        yield chunk
    elif chunk.nbytes > LARGEST and len(chunk) > 1:
        half = len(chunk) // 2
        yield from _plain(chunk.slice(0, half))
        yield from _plain(chunk.slice(half))
    else:
        yield chunk.cast(pa.string())


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
    extra: dict[str, Sequence[Any]]
    """`source` and `row`, and columns to slice by, by our name."""
    total: int
    """Rows of the source, before any was taken out."""
    lines: Callable[[Sequence[int]], dict[int, int]] = no_lines
    """The line on which each of some rows (from 1 on) begins."""

    def without(self, rows: Sequence[int]) -> Table:
        """All but some of its rows."""
        if not rows:
            return self
        keep = np.ones(len(self.texts), dtype=bool)
        keep[list(rows)] = False
        pairs = None if self.pairs is None else _kept(self.pairs, keep)
        labels = _kept(self.labels, keep) if self.labels else []
        extra = {name: _kept(cells, keep) for name, cells in self.extra.items()}
        return replace(self, texts=_kept(self.texts, keep), pairs=pairs, labels=labels, extra=extra)
