"""Reads and writes tables of any size, a window of rows at a time."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from collections.abc import Generator, Iterable, Iterator, Sequence
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from nlp_transfer.errors import ExitCode, UserError

KINDS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
}
STREAMED = ("csv", "tsv", "jsonl")
CELLS = ("csv", "tsv")  # whose cells are texts
DELIMITERS = {"csv": ",", "tsv": "\t"}
NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
WINDOW = 4096  # rows: sorted by length they leave little padding, and a kill loses only these
LARGEST_FIELD = 1 << 30  # characters of one CSV cell

Window: TypeAlias = pa.Table | list[dict[str, Any]]  # JSON lines keep their own shape, row by row


def kind_of(file: Path) -> str:
    """By its suffix.

    Raises:
        UserError: if it is none that can be read and written.
    """
    kind = KINDS.get(file.suffix.lower())
    if kind is None:
        raise UserError(
            ExitCode.CONFIG, f"{file} is not one of the known kinds: {', '.join(KINDS)}."
        )
    return kind


def read_windows(file: BinaryIO, kind: str, name: str) -> Generator[Window, None, None]:
    """Windows of `WINDOW` rows, the last one shorter; cells of CSV and TSV are texts.

    Raises:
        UserError: with the line that cannot be read.
    """
    try:
        match kind:
            case "parquet":
                table = pq.ParquetFile(file, pre_buffer=False)
                _refuse_repeated(table.schema_arrow.names, name)
                for batch in table.iter_batches(WINDOW):
                    yield pa.Table.from_batches([batch])
            case "jsonl":
                yield from _windows_of_lines(file, name)
            case _:
                yield from _windows_of_cells(file, DELIMITERS[kind], name)
    except UnicodeDecodeError as error:
        line = _first_line_not_utf8(Path(name))
        where = "" if line is None else f", line {line}"
        raise UserError(
            ExitCode.DATA, f"{name}{where}: not UTF-8 ({error.reason}). Save the file as UTF-8."
        ) from error
    except pa.ArrowException as error:
        raise UserError(ExitCode.DATA, f"{name} cannot be read: {error}.") from error


def lines_of(name: str, rows: Sequence[int]) -> dict[int, int]:
    """The line of a file on which each of the rows (from 1 on) begins; none, if it has no lines."""
    path = Path(name)
    kind = KINDS.get(path.suffix.lower())
    if kind not in STREAMED or not path.is_file():
        return {}
    wanted = set(rows)
    # Of JSON lines only \n ends one; the texts of a CSV may have any line ends.
    with path.open(encoding="utf-8-sig", newline="\n" if kind == "jsonl" else "") as file:
        starts = _filled_lines(file) if kind == "jsonl" else _first_lines(file, DELIMITERS[kind])
        return {row: line for row, line in enumerate(starts, start=1) if row in wanted}


def other_delimiter(name: str, columns: Sequence[str]) -> str:
    """What to say of a header that is one cell, where it looks like several; else nothing."""
    expected = DELIMITERS.get(KINDS.get(Path(name).suffix.lower(), ""))
    if len(columns) != 1 or expected is None:
        return ""
    looks = [mark for mark in NAMES if mark != expected and mark in columns[0]]
    if not looks:
        return ""
    return (
        f" Line 1 of {name} is one cell, {columns[0]!r}: its columns seem to be separated by "
        f"{NAMES[looks[0]]}. Expected {NAMES[expected]} (tabs in a .tsv, commas in a .csv)."
    )


def columns_of(window: Window) -> list[str]:
    """Every column of a window, in order."""
    if isinstance(window, pa.Table):
        return list(window.column_names)
    return list(dict.fromkeys(name for row in window for name in row))


def column(window: Window, name: str) -> list[Any]:
    """The values of one column; None where a row has none."""
    if isinstance(window, pa.Table):
        return window[name].to_pylist()
    return [row.get(name) for row in window]


def with_columns(window: Window, columns: dict[str, tuple[list[Any], pa.DataType]]) -> Window:
    """The window with more columns at its end: values, and of which type they are in a table."""
    if isinstance(window, pa.Table):
        for name, (values, kind) in columns.items():
            window = window.append_column(name, pa.array(values, kind))
        return window
    added = zip(*(values for values, _ in columns.values()), strict=True)
    rows = zip(window, added, strict=True)
    return [{**row, **dict(zip(columns, values, strict=True))} for row, values in rows]


def as_tables(windows: Iterable[Window]) -> Iterator[pa.Table]:
    """JSON lines in the columns and types of the first window.

    Raises:
        UserError: where a row does not fit them.
    """
    schema = None
    advice = "Write the answers as .jsonl, where every row may have a shape of its own."
    for window in windows:
        if isinstance(window, pa.Table):
            yield window
            continue
        names = schema.names if schema else columns_of(window)
        unknown = [name for name in columns_of(window) if name not in names]
        if unknown:
            message = f"A row has {unknown[0]!r}, which none of the first {WINDOW:,} rows has."
            raise UserError(ExitCode.DATA, f"{message} {advice}")
        try:
            table = pa.table({name: column(window, name) for name in names}, schema)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            message = f"A row does not have the types of the first {WINDOW:,} rows: {error}."
            raise UserError(ExitCode.DATA, f"{message} {advice}") from error
        schema = table.schema
        yield table


class WindowWriter:
    """Writes windows that all have the columns of the first; JSON lines need not."""

    def __init__(self, kind: str, first: Window) -> None:
        self.kind = kind
        self.columns = columns_of(first)
        self.schema = first.schema if isinstance(first, pa.Table) else None

    def header(self) -> bytes:
        """What stands before the rows."""
        return self._cells([self.columns]) if self.kind in CELLS else b""

    def write(self, window: Window, file: BinaryIO) -> None:
        """One window: Parquet whole, else its rows alone."""
        match self.kind:
            case "parquet":
                pq.write_table(window, file)
            case "jsonl":
                rows = window.to_pylist() if isinstance(window, pa.Table) else window
                file.writelines(_line(row) for row in rows)
            case _:
                values = [column(window, name) for name in self.columns]
                file.write(self._cells(zip(*values, strict=True)))

    def join(self, parts: Iterable[Path], file: BinaryIO) -> None:
        """The parts as one table; only one of them is in memory at a time."""
        if self.kind == "parquet":
            with pq.ParquetWriter(file, self.schema) as writer:
                for part in parts:
                    writer.write_table(pq.read_table(part))
            return
        file.write(self.header())
        for part in parts:
            with part.open("rb") as rows:
                shutil.copyfileobj(rows, file)

    def _cells(self, rows: Iterable[Sequence[Any]]) -> bytes:
        lines = _Lines()
        writer = csv.writer(lines, delimiter=DELIMITERS[self.kind], lineterminator="\r\n")
        writer.writerows([_cell(value) for value in row] for row in rows)
        return "".join(lines).encode()


class _Lines(list[str]):
    """Lines of a CSV writer that ends them with both signs, so that it quotes cells with either."""

    def write(self, line: str) -> None:
        self.append(line.removesuffix("\r\n") + "\n")


def _windows_of_lines(file: BinaryIO, name: str) -> Iterator[Window]:
    window: list[dict[str, Any]] = []
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        try:
            row = json.loads(text)
            if "\\ud" in text.lower():
                json.dumps(row, ensure_ascii=False).encode()  # half of a character is no text
        except (ValueError, RecursionError) as error:
            raise UserError(
                ExitCode.DATA, f"{name}, line {number}: expected one JSON object a line: {error}."
            ) from error
        if not isinstance(row, dict):
            raise UserError(
                ExitCode.DATA,
                f"{name}, line {number}: expected a JSON object, found {line[:40]!r}.",
            )
        window.append(row)
        if len(window) == WINDOW:
            yield window
            window = []
    if window:
        yield window


def _windows_of_cells(file: BinaryIO, delimiter: str, name: str) -> Iterator[Window]:
    csv.field_size_limit(LARGEST_FIELD)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    reader = csv.reader(_without_nul(text, name), delimiter=delimiter, strict=True)
    begun = 1  # the line on which the row under way begins
    names: list[str] = [""]
    try:
        names = next(reader, [])
        if not names and reader.line_num:
            raise UserError(
                ExitCode.DATA,
                f"{name}, line 1: expected the names of the columns, found an empty line.",
            )
        _refuse_repeated(names, name)
        rows: list[list[str]] = []
        begun = reader.line_num + 1
        for row in reader:
            if row and len(row) != len(names):
                raise UserError(
                    ExitCode.DATA,
                    f"{name}, line {begun}: expected {len(names)} cells as in the header, found "
                    f"{len(row)}.{_unclosed(begun, reader.line_num)}{other_delimiter(name, names)}",
                )
            begun = reader.line_num + 1
            if not row:
                continue  # an empty line
            rows.append(row)
            if len(rows) == WINDOW:
                yield _table_of_texts(names, rows)
                rows = []
        if rows:
            yield _table_of_texts(names, rows)
    except csv.Error as error:
        raise UserError(
            ExitCode.DATA,
            f"{name}, line {begun}: {error}.{_unclosed(begun, reader.line_num)} A cell that begins "
            "with a quote ends with one, and quotes inside it are doubled."
            f"{other_delimiter(name, names)}",
        ) from error
    finally:
        text.detach()  # the file is not ours to close


def _refuse_repeated(columns: Sequence[str], name: str) -> None:
    repeated = sorted({column for column in columns if columns.count(column) > 1})
    if repeated:
        raise UserError(ExitCode.DATA, f"{name} has the column {repeated[0]!r} more than once.")


def _unclosed(begun: int, ended: int) -> str:
    """What to think of a row that goes over several lines and cannot be read."""
    if begun >= ended:
        return ""
    return f" The row goes on to line {ended}: a quote that opens on line {begun} is not closed."


def _without_nul(lines: Iterable[str], name: str) -> Iterator[str]:
    """The lines, which are none of a text file where they have NUL characters."""
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise UserError(
                ExitCode.DATA,
                f"{name}, line {number}: has a NUL character, which no text has (is it UTF-16, or "
                "damaged?). Save the file as UTF-8, or remove it.",
            )
        yield line


def _first_lines(file: Iterable[str], delimiter: str) -> Iterator[int]:
    """The line on which each row begins, the header left out."""
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    next(reader, None)
    begun = reader.line_num + 1
    for row in reader:
        if row:
            yield begun
        begun = reader.line_num + 1


def _filled_lines(file: Iterable[str]) -> Iterator[int]:
    return (number for number, line in enumerate(file, start=1) if line.strip())


def _first_line_not_utf8(path: Path) -> int | None:
    """None where the file is a pipe and gone."""
    if not path.is_file():
        return None
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return None


def _table_of_texts(names: list[str], rows: list[list[str]]) -> pa.Table:
    values = zip(*rows, strict=True)
    return pa.table({n: pa.array(v, pa.string()) for n, v in zip(names, values, strict=True)})


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
