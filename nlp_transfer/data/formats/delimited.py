"""Reads CSV and TSV; every cell is a text."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import BinaryIO

import pyarrow as pa

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


def line_starts(expected: str, file: BinaryIO, name: str, options: ReadOptions) -> Iterator[int]:
    """The line on which each row begins, the header left out."""
    with decoded(file, options, newline="") as text:
        separator, first = _separator(text, expected, name, options)
        reader = csv.reader(chain([first] if first else [], text), delimiter=separator, strict=True)
        next(reader, None)
        begins = reader.line_num + 1
        for row in reader:
            if row:
                yield begins
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
    with decoded(file, options, newline="") as text:
        separator, first = _separator(text, expected, name, options)
        yield from _rows(
            _without_nul(chain([first] if first else [], text), name, options),
            separator,
            name,
            options,
        )


for _name, _mark in (("csv", ","), ("tsv", "\t")):
    register_reader(_name, f".{_name}", lines=partial(line_starts, _mark))(
        partial(read_delimited, _mark)
    )


def _separator(
    text: Iterable[str], expected: str, name: str, options: ReadOptions
) -> tuple[str, str]:
    """What stands between the cells, and the first line, which is read to see it."""
    first = next(iter(text), "")
    if options.separator is not None:
        return ESCAPES.get(options.separator, options.separator), first
    if len(_cells(first, expected)) > 1:
        return expected, first
    others = [mark for mark in NAMES if mark != expected and len(_cells(first, mark)) > 1]
    if len(others) != 1:
        return expected, first
    options.note(
        f"{name}: the columns are separated by {NAMES[others[0]]}, as its header shows "
        f"({options.keys}separator)"
    )
    return others[0], first


def _cells(line: str, separator: str) -> list[str]:
    return next(csv.reader([line.rstrip("\r\n")], delimiter=separator), [])


def _rows(
    lines: Iterable[str], separator: str, name: str, options: ReadOptions
) -> Iterator[Window]:
    reader = csv.reader(lines, delimiter=separator, strict=True)
    begins = 1  # the line on which the current row begins
    try:
        header = next(reader, [])
        if not header and reader.line_num:
            raise UserError(
                ExitCode.DATA,
                f"{name}, line 1: expected the names of the columns, found an empty line.",
            )
        names = unique_names(header)
        rows: list[list[str]] = []
        begins = reader.line_num + 1
        for row in reader:
            if row and len(row) != len(names):
                raise UserError(
                    ExitCode.DATA,
                    f"{name}, line {begins}: expected {len(names)} cells as in the header, found "
                    f"{len(row)}; the cells are separated by {NAMES.get(separator, separator)} "
                    f"({options.keys}separator).{_unclosed(begins, reader.line_num)}",
                )
            begins = reader.line_num + 1
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
            f"{name}, line {begins}: {error}.{_unclosed(begins, reader.line_num)} A cell that "
            "begins with a quote ends with one, and quotes inside it are doubled.",
        ) from error


def _unclosed(begins: int, ends: int) -> str:
    """A hint for a row that spans several lines and cannot be read."""
    if begins >= ends:
        return ""
    return f" The row goes on to line {ends}: a quote that opens on line {begins} is not closed."


def _without_nul(lines: Iterable[str], name: str, options: ReadOptions) -> Iterator[str]:
    """The lines; text files have no NUL characters."""
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise has_nul(name, number, options)
        yield line


def _table_of_texts(names: Sequence[str], rows: list[list[str]]) -> pa.Table:
    values = zip(*rows, strict=True)
    return pa.table({n: pa.array(v, pa.string()) for n, v in zip(names, values, strict=True)})
