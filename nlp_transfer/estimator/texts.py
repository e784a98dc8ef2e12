"""Reads `X`: texts, or pairs of texts, from whatever holds a column or two of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np

from nlp_transfer.data.cells import about_half, is_blank, kind_of_cell
from nlp_transfer.errors import InputError

SHOWN = 60  # characters of a cell in an error
EXPECTED = "a list of texts, or of pairs of texts"
MISSING = ("NAType", "NaTType")  # how pandas writes a missing value


@dataclass(frozen=True)
class TextColumns:
    """One column of texts, or two of pairs; None where a text is missing."""

    texts: list[str | None]
    pairs: list[str | None] | None  # the second texts

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def answerable(self) -> np.ndarray:
        """Which rows have something to read in every column, bool [rows]."""
        columns = [self.texts] if self.pairs is None else [self.texts, self.pairs]
        rows = [not any(map(is_blank, row)) for row in zip(*columns, strict=True)]
        return np.array(rows, dtype=bool)


def read_texts(x: Any) -> TextColumns:
    """The texts of `X`.

    Args:
        x: a list, a generator, a NumPy array, an Arrow array, or a column of pandas, polars or
            datasets; for pairs of texts a frame or an array with two columns, or a list of pairs.

    Raises:
        InputError: it holds something else.
    """
    columns = _columns(x)
    if columns is None:
        rows = list(elements(x))
        first = next((row for row in rows if not _is_missing(row)), None)
        if isinstance(first, list | tuple) or (isinstance(first, np.ndarray) and first.ndim == 1):
            columns = _of_rows(rows, len(first))
        else:
            columns = [rows]
    if len(columns) not in (1, 2):
        raise InputError(
            f"X has {len(columns)} columns; expected one column of texts, or two for pairs of "
            'texts. Select them, as in frame["text"] or frame[["question", "answer"]].'
        )
    texts, *rest = [[_text(cell, row) for row, cell in enumerate(column)] for column in columns]
    return TextColumns(texts, rest[0] if rest else None)


def refuse_other_shape(columns: TextColumns, paired: bool) -> None:
    """Single texts where a model was fitted on pairs, or the other way round.

    Raises:
        InputError: they differ.
    """
    if (columns.pairs is not None) is paired or not len(columns):
        return
    actual, expected = ("single texts", "pairs of texts") if paired else ("pairs", "single texts")
    raise InputError(f"X holds {actual}; expected {expected}, as in fit.")


def refuse_other_length(columns: TextColumns, y: Any) -> None:
    """Labels or scores that are not as many as the texts; of a generator `_fit` says it.

    Raises:
        InputError: they differ.
    """
    shape = getattr(y, "shape", None)
    if shape is None and isinstance(y, Sized) and not isinstance(y, str | bytes | Mapping):
        shape = (len(y),)
    if shape and shape[0] != len(columns):
        raise other_length(len(columns), shape[0])


def other_length(texts: int, labels: int) -> InputError:
    """The error for as many texts and labels."""
    return InputError(
        f"X has {texts} text{'s' * (texts != 1)} and y {labels} label{'s' * (labels != 1)}; "
        "expected one label for each text."
    )


def frame_columns(table: Any) -> dict[str, Sequence[Any]] | None:
    """The columns of a frame of pandas or polars, an Arrow table or a `Dataset`; None: it is none.

    A `Mapping` of columns is not a frame: whoever has one can say which column it is.
    """
    names = getattr(table, "column_names", None) or getattr(table, "columns", None)
    if names is None or not hasattr(table, "__getitem__") or isinstance(table, Mapping):
        return None
    if hasattr(table, "column_names"):
        return {name: list(elements(table[name])) for name in names}
    return {str(name): list(elements(table[name])) for name in names}


def _columns(x: Any) -> list[Sequence[Any]] | None:
    """The columns of a frame or of an array with two dimensions; None: it is a column."""
    if isinstance(x, str | bytes):
        raise InputError(f"X is one text; expected {EXPECTED}. Give [text].")
    if isinstance(x, Mapping):
        raise InputError(f'X is a mapping; expected {EXPECTED}. Select a column, as in x["text"].')
    if hasattr(x, "toarray") or not (hasattr(x, "__iter__") or hasattr(x, "__array__")):
        raise InputError(f"X is a {type(x).__name__}; expected {EXPECTED}.")
    frame = frame_columns(x)
    if frame is not None:
        return list(frame.values())
    if hasattr(x, "__array__") and not hasattr(x, "to_pylist"):
        shape = getattr(x, "shape", None) or np.shape(x)
        if len(shape) == 0:
            raise InputError(f"X is a single value; expected {EXPECTED}.")
        if len(shape) > 2:
            raise InputError(f"X has {len(shape)} dimensions; expected {EXPECTED}.")
        if len(shape) == 2:
            return [list(column) for column in np.asarray(x).T]
    return None


def elements(column: Any) -> Iterable[Any]:
    """The elements of a column as Python has them."""
    if hasattr(column, "to_pylist"):  # of Arrow
        return column.to_pylist()
    return column if hasattr(column, "__iter__") else np.asarray(column)


def _of_rows(rows: list[Any], width: int) -> list[Sequence[Any]]:
    for place, row in enumerate(rows):
        if _is_missing(row):
            rows[place] = (None,) * width
        elif isinstance(row, str) or not hasattr(row, "__len__") or len(row) != width:
            raise InputError(
                f"X[{place}] is {str(row)[:SHOWN]!r}, where X[0] holds {width} texts; expected "
                f"{EXPECTED}, of one kind."
            )
    return list(zip(*rows, strict=True))


def _is_missing(cell: Any) -> bool:
    missing = cell is None or type(cell).__name__ in MISSING
    return missing or (isinstance(cell, float) and cell != cell)


def _text(cell: Any, row: int) -> str | None:
    if _is_missing(cell):
        return None
    if not isinstance(cell, str):
        raise InputError(
            f"X[{row}] is {kind_of_cell(cell)} ({str(cell)[:SHOWN]}); expected a text."
        )
    if (wrong := about_half(cell)) is not None:
        raise InputError(f"X[{row}]: {wrong}")
    return str(cell)
