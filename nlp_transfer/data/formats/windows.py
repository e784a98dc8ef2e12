"""Columns of windows of rows, and the writers of tables."""

from __future__ import annotations

import bisect
import codecs
import csv
import json
import math
import shutil
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, time
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from nlp_transfer.data.columns import cells_of
from nlp_transfer.data.formats.arrow_types import array_of, whole_array
from nlp_transfer.data.formats.registry import WINDOW, Window
from nlp_transfer.data.formats.workbook import workbook_cell, write_workbook
from nlp_transfer.errors import ExitCode, UserError

WORKBOOK = "xlsx"
WRITTEN = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".xlsx": WORKBOOK,
}
STREAMED = ("csv", "tsv", "jsonl")  # that standard output takes
CELLS = ("csv", "tsv", WORKBOOK)  # whose cells hold no lists
DELIMITERS = {"csv": ",", "tsv": "\t"}
ANY_SHAPE = (
    "Columns of a table have one type each: write these cells in one way, or the answers as "
    ".jsonl, where every row may have a shape of its own."
)


def kind_of(file: Path) -> str:
    """The format in which a file is written, by its suffix.

    Raises:
        UserError: if it is none that can be written, or what writes it is not installed.
    """
    kind = WRITTEN.get(file.suffix.lower())
    if kind is None:
        raise UserError(
            ExitCode.CONFIG,
            f"{file}: no table of this kind is written; expected {', '.join(WRITTEN)}.",
        )
    if kind == WORKBOOK and find_spec("openpyxl") is None:
        raise UserError(
            ExitCode.MACHINE,
            f"{file} needs openpyxl, which is not installed. Type pip install "
            "'nlp_transfer[excel]', or write .csv, which Excel opens.",
        )
    return kind


def columns_of(window: Window) -> list[str]:
    """Every column of a window, in order."""
    if isinstance(window, pa.Table):
        return list(window.column_names)
    return list(dict.fromkeys(name for row in window for name in row))


def column(window: Window, name: str) -> list[Any]:
    """The values of one column or nested field; None where a row has none."""
    if isinstance(window, pa.Table):
        return list(cells_of(window.column_names, name, lambda c: raw_column(window, c)))
    try:
        return list(cells_of(columns_of(window), name, lambda c: raw_column(window, c)))
    except KeyError:
        return [None] * len(window)


def raw_column(window: Window, name: str) -> list[Any]:
    """The values of a column by its exact name."""
    if isinstance(window, pa.Table):
        return window[name].to_pylist()
    return [row.get(name) for row in window]


def with_columns(window: Window, columns: dict[str, tuple[list[Any], pa.DataType]]) -> Window:
    """The window with more columns at its end: values, and of which type they are in a table."""
    if isinstance(window, pa.Table):
        for name, (values, kind) in columns.items():
            window = window.append_column(name, array_of(values, kind))
        return window
    added = zip(*(values for values, _ in columns.values()), strict=True)
    rows = zip(window, added, strict=True)
    return [{**row, **dict(zip(columns, values, strict=True))} for row, values in rows]


def as_tables(windows: Iterable[Window]) -> Iterator[pa.Table]:
    """JSON lines in the columns and types of the first window.

    Raises:
        UserError: where a row does not fit them.
    """
    schema, before = None, 0
    known: dict[str, tuple[int, Any]] = {}
    for window in windows:
        if isinstance(window, pa.Table):
            yield window
            continue
        names = schema.names if schema else columns_of(window)
        unknown = [name for name in columns_of(window) if name not in names]
        if unknown:
            row = before + next(i for i, cells in enumerate(window) if unknown[0] in cells)
            message = f"has {unknown[0]!r}, which none of the first {WINDOW:,} rows has."
            raise UserError(ExitCode.DATA, f"Row {row + 1:,} {message} {ANY_SHAPE}")
        arrays = []
        for name in names:
            values = raw_column(window, name)
            kind = schema.field(name).type if schema else None
            try:
                arrays.append(whole_array(values, kind))
            except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
                raise _other_type(name, values, kind, before, known.get(name)) from error
            first = next((i for i, value in enumerate(values) if value is not None), None)
            if name not in known and first is not None:
                known[name] = before + first, values[first]
        table = pa.table(arrays, schema=schema) if schema else pa.table(arrays, names)
        schema, before = table.schema, before + len(window)
        yield table


def _other_type(
    name: str,
    values: list[Any],
    kind: pa.DataType | None,
    before: int,
    known: tuple[int, Any] | None,
) -> UserError:
    """About the first value that goes into no column with those before it.

    Args:
        kind: of the column; None: these are its first values.
        before: how many rows precede them.
        known: number and value of an earlier row.
    """
    row = bisect.bisect_left(range(len(values)), 1, key=lambda i: not _fit(values[: i + 1], kind))
    some = ((before + i, value) for i, value in enumerate(values[:row]) if value is not None)
    known = known or next(some, None)
    other = "which no column of a table holds"
    if kind is not None and pa.types.is_null(kind):
        other = f"where the first {WINDOW:,} rows have nothing"
    elif known is not None:
        other = f"where row {known[0] + 1:,} has {repr(known[1])[:60]}"
    message = f"Row {before + row + 1:,}, column {name!r}: found {repr(values[row])[:60]}, {other}."
    return UserError(ExitCode.DATA, f"{message} {ANY_SHAPE}")


def _fit(values: list[Any], kind: pa.DataType | None) -> bool:
    try:
        whole_array(values, kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False
    return True


class WindowWriter:
    """Writes windows that all have the columns of the first; JSON lines need not."""

    def __init__(
        self, kind: str, first: Window, separator: str | None = None, is_marked: bool = False
    ) -> None:
        """Take the columns of the first window.

        Args:
            separator: of cells; None: that of the kind.
            is_marked: whether cells begin with the mark of UTF-8, without which Excel reads other
                letters.
        """
        self.kind = kind
        self.is_marked = is_marked
        self.separator = separator or DELIMITERS.get(kind, "")
        self.columns = columns_of(first)
        self.schema = first.schema if isinstance(first, pa.Table) else None

    def header(self) -> bytes:
        """What stands before the rows."""
        if self.kind not in DELIMITERS:
            return b""
        return codecs.BOM_UTF8 * self.is_marked + self._cells([self.columns])

    def write(self, window: Window, file: BinaryIO) -> None:
        """One window: as Parquet where only a whole file can be written, else its rows alone."""
        match self.kind:
            case "parquet" | "xlsx":
                import pyarrow.parquet as pq

                if self.kind == WORKBOOK:
                    for row in self._rows(window):
                        list(map(workbook_cell, row))
                pq.write_table(window, file)
            case "jsonl":
                rows = window.to_pylist() if isinstance(window, pa.Table) else window
                file.writelines(_line(row) for row in rows)
            case _:
                file.write(self._cells(self._rows(window)))

    def write_whole(self, window: Window, file: BinaryIO) -> None:
        """A table that is a single window."""
        if self.kind == WORKBOOK:
            write_workbook(self.columns, self._rows(window), file)
            return
        file.write(self.header())
        self.write(window, file)

    def join(self, parts: Iterable[Path], file: BinaryIO) -> None:
        """The parts as one table; only one of them is in memory at a time."""
        if self.kind in ("parquet", WORKBOOK):
            import pyarrow.parquet as pq

            tables = (pq.read_table(part) for part in parts)
            if self.kind == WORKBOOK:
                rows = (row for table in tables for row in self._rows(table))
                write_workbook(self.columns, rows, file)
                return
            with pq.ParquetWriter(file, self.schema) as writer:
                for table in tables:
                    writer.write_table(table)
            return
        file.write(self.header())
        for part in parts:
            with part.open("rb") as lines:
                shutil.copyfileobj(lines, file)

    def _rows(self, window: Window) -> Iterator[tuple[Any, ...]]:
        """Its rows in the order of the columns; what is nested is JSON."""
        values = [map(_cell, column(window, name)) for name in self.columns]
        return zip(*values, strict=True)

    def _cells(self, rows: Iterable[Sequence[Any]]) -> bytes:
        lines = _Lines()
        writer = csv.writer(lines, delimiter=self.separator, lineterminator="\r\n")
        writer.writerows(rows)
        return "".join(lines).encode()


class _Lines(list[str]):
    """Lines of a CSV writer that ends them with both signs, so that it quotes cells with either."""

    def write(self, line: str) -> None:
        self.append(line.removesuffix("\r\n") + "\n")


def _line(row: dict[str, Any]) -> bytes:
    try:
        text = json.dumps(row, ensure_ascii=False, allow_nan=False, default=_in_json)
    except ValueError:
        text = json.dumps(_finite(row), ensure_ascii=False, default=_in_json)
    return text.encode() + b"\n"


def _finite(value: Any) -> Any:
    """JSON has no NaN: what is none of its numbers is null."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {name: _finite(inner) for name, inner in value.items()}
        case list():
            return [_finite(inner) for inner in value]
    return value


def _in_json(value: Any) -> Any:
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    raise UserError(
        ExitCode.DATA,
        f"JSON cannot hold {type(value).__name__} values. Write the answers as .parquet.",
    )


def _cell(value: Any) -> Any:
    nested = isinstance(value, dict | list)
    return json.dumps(value, ensure_ascii=False, default=_in_json) if nested else value
