"""Reads CSV and TSV; every cell is a text."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Any, BinaryIO

import pyarrow as pa

from nlp_transfer.config.choices import Quoting
from nlp_transfer.data.cells import is_blank
from nlp_transfer.data.columns import find_column
from nlp_transfer.data.formats.arrow_types import array_of
from nlp_transfer.data.formats.encodings import decoded, has_nul
from nlp_transfer.data.formats.registry import (
    WINDOW,
    ReadOptions,
    Window,
    register_reader,
    unique_names,
)
from nlp_transfer.errors import ExitCode, UserError

NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
ESCAPES = {"\\t": "\t", "tab": "\t"}  # how a person types a tab
LARGEST_FIELD = 1 << 30  # characters of one CSV cell
EXCEL_MARK = re.compile(r"sep=(.)\s*", re.IGNORECASE)  # a first line that names the separator
FIRST_LINES = 3  # that are looked at before the file is read
MARK = "\ufeff"  # of UTF-8; files that were joined have several
LIKE_ROWS = 3  # lines inside of a cell that look like rows: a quote may be missing
STYLES: dict[Quoting, dict[str, Any]] = {
    Quoting.double: {},
    Quoting.backslash: {"escapechar": "\\"},
    Quoting.none: {"quoting": csv.QUOTE_NONE},
}


@dataclass(frozen=True)
class Dialect:
    """How the cells of a file are written."""

    separator: str
    spaces: bool = False
    """Whether spaces stand before the quotes of cells."""
    skipped: int = 0
    """Lines before the header."""


def line_starts(expected: str, file: BinaryIO, name: str, options: ReadOptions) -> Iterator[int]:
    """The line on which each row begins, the header left out."""
    with decoded(file, name, options, newline="") as text:
        lines, dialect = _recognised(text, expected, name, options)
        reader = _reader(lines, dialect, options)
        width = len(next(reader, []))
        begins = reader.line_num + 1
        for row in reader:
            if not _is_empty(row, width):
                yield begins + dialect.skipped
            begins = reader.line_num + 1


def read_delimited(
    expected: str, file: BinaryIO, name: str, options: ReadOptions
) -> Iterator[Window]:
    """Windows of texts.

    Args:
        expected: the separator of the format.

    Raises:
        UserError: with the line that cannot be read.
    """
    csv.field_size_limit(LARGEST_FIELD)
    with decoded(file, name, options, newline="") as text:
        lines, dialect = _recognised(text, expected, name, options)
        yield from _windows(_without_nul(lines, name, options), dialect, name, options)


for _name, _mark in (("csv", ","), ("tsv", "\t")):
    register_reader(_name, f".{_name}", lines=partial(line_starts, _mark))(
        partial(read_delimited, _mark)
    )


def _recognised(
    text: Iterable[str], expected: str, name: str, options: ReadOptions
) -> tuple[Iterator[str], Dialect]:
    """The lines from the header on, and how their cells are written."""
    iterator = iter(text)
    first = list(islice(iterator, FIRST_LINES))
    mark = EXCEL_MARK.fullmatch(first[0]) if first else None
    skipped = 1 if mark else 0
    lines = chain(first[skipped:], iterator)
    separator = _separator(first[skipped:], mark[1] if mark else expected, name, options)
    spaces = any(re.search(rf'{re.escape(separator)} +"', line) for line in first[skipped:])
    if spaces:
        options.note(f"{name}: spaces before the quotes of cells are left out")
    options.found_separator(separator)
    return lines, Dialect(separator, spaces, skipped)


def _separator(first: Sequence[str], expected: str, name: str, options: ReadOptions) -> str:
    """What stands between the cells: as asked, as the suffix says, or as the header shows."""
    if options.separator is not None:
        return _asked_separator(options)
    header = first[0] if first else ""
    fits = [
        mark for mark in dict.fromkeys((expected, *NAMES)) if _has_columns(header, mark, options)
    ]
    if not fits:  # the columns that are asked for are none of the file, whatever separates them
        fits = [mark for mark in (expected, *NAMES) if _are_cells(first, mark)]
    if not fits or expected in fits:
        return expected
    if len(fits) > 1:  # no columns are asked for that could decide
        return expected
    options.note(
        f"{name}: the columns are separated by {NAMES[fits[0]]}, as its header shows "
        f"({options.keys}separator)"
    )
    return fits[0]


def _are_cells(first: Sequence[str], separator: str) -> bool:
    """Whether a separator cuts every line into as many cells, several of them."""
    try:
        rows = [row for row in csv.reader(first, delimiter=separator) if row]
    except csv.Error:
        return False
    whole = rows if len(first) < FIRST_LINES else rows[:-1]  # the last may go on
    return len(whole) > 1 and len({len(row) for row in whole}) == 1 and len(whole[0]) > 1


def _asked_separator(options: ReadOptions) -> str:
    separator = ESCAPES.get(options.separator or "", options.separator or "")
    if len(separator) != 1 or separator in '"\r\n':
        raise UserError(
            ExitCode.CONFIG,
            f"{options.keys}separator: expected one sign, as in ';' or tab, found "
            f"{options.separator!r}.",
        )
    return separator


def _has_columns(header: str, separator: str, options: ReadOptions) -> bool:
    """Whether a header, cut by a separator, has the columns that are asked for, or several."""
    try:
        cells = next(csv.reader([header.strip(f"\r\n{MARK}")], delimiter=separator), [])
    except csv.Error:
        return False
    if len(cells) < 2:
        return False
    return all(find_column(cells, column) is not None for column in options.columns) or (
        separator in header and not options.columns
    )


def _reader(lines: Iterable[str], dialect: Dialect, options: ReadOptions) -> Any:
    style = STYLES[options.quoting]
    return csv.reader(
        lines,
        delimiter=dialect.separator,
        skipinitialspace=dialect.spaces,
        strict=True,
        **style,
    )


def _windows(
    lines: Iterable[str], dialect: Dialect, name: str, options: ReadOptions
) -> Iterator[Window]:
    reader = _reader(lines, dialect, options)
    begins = 1  # the line on which the current row begins
    try:
        header = [cell.strip(MARK) for cell in next(reader, [])]
        if not header and reader.line_num:
            raise UserError(
                ExitCode.DATA,
                f"{name}, line {1 + dialect.skipped}: expected the names of the columns, found an "
                "empty line.",
            )
        names = unique_names(header)
        rows: list[list[str]] = []
        begins = reader.line_num + 1
        for row in reader:
            place = f"{name}, line {begins + dialect.skipped}"
            ends = reader.line_num + dialect.skipped
            _check_row(row, header, dialect, place, ends, options)
            begins = reader.line_num + 1
            if _is_empty(row, len(names)):
                continue
            rows.append(row)
            if len(rows) == WINDOW:
                yield _table_of_texts(names, rows)
                rows = []
        if rows:
            yield _table_of_texts(names, rows)
    except csv.Error as error:
        place, ends = f"{name}, line {begins + dialect.skipped}", reader.line_num
        raise UserError(
            ExitCode.DATA,
            f"{place}: {error}.{_unclosed(place, begins, ends + dialect.skipped)} A cell that "
            "begins with a quote ends with one, and quotes inside it are doubled. "
            f"{_quoting(options)}",
        ) from error


def _check_row(
    row: list[str], header: list[str], dialect: Dialect, place: str, ends: int, options: ReadOptions
) -> None:
    """Refuse a row that cannot be one; note one that may hold others."""
    if _is_empty(row, len(header)):
        return
    begins = int(place.rpartition(" ")[2])
    if len(row) != len(header):
        sign = NAMES.get(dialect.separator, dialect.separator)
        expected = "1 cell" if len(header) == 1 else f"{len(header)} cells"
        raise UserError(
            ExitCode.DATA,
            f"{place}: expected {expected} as in the header, found {len(row)}; the cells are "
            f"separated by {sign} ({options.keys}separator), and a cell with {sign} in it "
            f"stands in quotes.{_unclosed(place, begins, ends)}{_title(header, row)}",
        )
    if len(header) > 1 and [cell.strip(MARK) for cell in row] == header:
        raise UserError(
            ExitCode.DATA,
            f"{place}: repeats the header. If files were joined, remove this line.",
        )
    for cell in row:
        lines = cell.splitlines()[1:] if ends > begins else []
        like = sum(len(line.split(dialect.separator)) == len(header) for line in lines)
        if like >= LIKE_ROWS and like > 0.8 * len(lines):
            options.note(
                f"{place}: a cell in quotes goes on to line {ends}, and its lines look like rows: "
                f"is a quote missing? {_quoting(options)}"
            )


def _title(header: Sequence[str], row: Sequence[str]) -> str:
    """A hint for a first line that is no header: a title, or a comment."""
    if len(header) > 1 or len(row) < 2:
        return ""
    return (
        f" The first line names the columns, and here it is {header[0][:40]!r}: remove the lines "
        "before the header."
    )


def _is_empty(row: list[str], width: int) -> bool:
    """An empty line, or one with nothing to see."""
    return not row or (width > 1 and len(row) == 1 and is_blank(row[0]))


def _unclosed(place: str, begins: int, ends: int) -> str:
    """A hint for a row that spans several lines and cannot be read."""
    if begins >= ends:
        return ""
    line = place.rpartition(" ")[2]
    return f" The row goes on to line {ends}: a quote that opens on line {line} is not closed."


def _quoting(options: ReadOptions) -> str:
    key = options.assigned("quoting", Quoting.none.value)
    other = Quoting.backslash.value
    return f'Where quotes are ordinary characters, type {key}; where they are written \\", {other}.'


def _without_nul(lines: Iterable[str], name: str, options: ReadOptions) -> Iterator[str]:
    """The lines; text files have no NUL characters."""
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise has_nul(name, number, options)
        yield line


def _table_of_texts(names: Sequence[str], rows: list[list[str]]) -> pa.Table:
    values = zip(*rows, strict=True)
    return pa.table({n: array_of(v, pa.string()) for n, v in zip(names, values, strict=True)})
