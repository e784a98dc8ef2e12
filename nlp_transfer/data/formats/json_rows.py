"""Reads JSON: one object a line, an array of objects, or pandas' columns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, BinaryIO

from nlp_transfer.data.formats.encodings import decoded, has_nul
from nlp_transfer.data.formats.registry import WINDOW, ReadOptions, Window, register_reader
from nlp_transfer.errors import ExitCode, UserError

Row = dict[str, Any]
Lines = Iterator[tuple[int, str]]  # those that are not empty, with their numbers


def line_starts(file: BinaryIO, name: str, options: ReadOptions) -> Iterator[int]:
    """The line of each object; nothing where the file is one document."""
    del name
    with decoded(file, options, newline="\n") as text:
        lines = ((number, line) for number, line in enumerate(text, start=1) if line.strip())
        first = next(lines, None)
        if first is None or not _is_row(first[1]):
            return
        yield first[0]
        yield from (number for number, _ in lines)


@register_reader("jsonl", ".jsonl", ".ndjson", ".json", lines=line_starts)
def read_json_rows(file: BinaryIO, name: str, options: ReadOptions) -> Iterator[Window]:
    """Windows of rows as they stand in the file.

    Only \\n ends a line. A file whose first line is not one whole object is read as one document.

    Raises:
        UserError: with the line that cannot be read.
    """
    with decoded(file, options, newline="\n") as text:
        lines = ((number, line) for number, line in enumerate(text, start=1) if line.strip())
        first = next(lines, None)
        if first is None:
            return
        if "\0" in first[1]:
            raise has_nul(name, first[0], options)
        second = next(lines, None) if _is_row(first[1]) else None
        rows: Iterator[Row]
        if second is not None:
            rows = (_row(number, line, name) for number, line in chain((first, second), lines))
        else:
            rows = iter(_document(first, lines, name, options))
        while window := list(islice(rows, WINDOW)):
            yield window


def _is_row(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _row(number: int, line: str, name: str) -> Row:
    row = _parsed(line, number, name)
    if not isinstance(row, dict):
        raise UserError(
            ExitCode.DATA,
            f"{name}, line {number}: expected a JSON object, found {line[:40].rstrip()!r}.",
        )
    return row


def _parsed(text: str, line: int, name: str) -> Any:
    try:
        value = json.loads(text.rstrip())  # an error at the end is on the last line
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()  # half of a character is no text
        return value
    except RecursionError as error:
        raise UserError(ExitCode.DATA, f"{name}, line {line}: nested too deeply.") from error
    except ValueError as error:
        at = line + error.lineno - 1 if isinstance(error, json.JSONDecodeError) else line
        raise UserError(
            ExitCode.DATA,
            f"{name}, line {at}: expected one JSON object a line, or one array of objects: "
            f"{error}.",
        ) from error


def _document(first: tuple[int, str], rest: Lines, name: str, options: ReadOptions) -> list[Row]:
    """The rows of a file that is one JSON value."""
    number, line = first
    # A first line that begins no array and no object of several lines is the fault itself.
    opens = line.strip() in ("[", "{") or line.lstrip()[:1] == "["
    whole = line + "".join(text for _, text in rest) if opens else line
    value = _parsed(whole, number, name)
    rows = _rows_of(value)
    if rows is None:
        raise UserError(
            ExitCode.DATA,
            f"{name}, line {number}: expected a JSON object a line, or an array of objects, found "
            f"{line[:40].rstrip()!r}.",
        )
    options.note(f"{name} is one JSON document of {len(rows):,} rows")
    return rows


def _rows_of(value: Any) -> list[Row] | None:
    """The rows of a document: an array, pandas' orient `columns`, `split` or `table`, one row."""
    if isinstance(value, list):
        return value if value and all(isinstance(row, dict) for row in value) else None
    if not isinstance(value, dict):
        return None
    cells = list(value.values())
    if {"columns", "data"} <= set(value) and isinstance(value["columns"], list):
        return [dict(zip(value["columns"], row, strict=True)) for row in value["data"]]
    if set(value) == {"schema", "data"}:
        return _rows_of(value["data"])
    if cells and all(isinstance(cell, dict) for cell in cells):
        keys = list(cells[0])
        numbered = bool(keys) and all(key.isdigit() for key in keys)
        if numbered and all(list(cell) == keys for cell in cells):
            return [{name: cell[key] for name, cell in value.items()} for key in keys]
    if len(cells) > 1 and all(isinstance(cell, list) for cell in cells):
        lengths = {len(cell) for cell in cells}
        if len(lengths) == 1:
            return [dict(zip(value, row, strict=True)) for row in zip(*cells, strict=True)]
    return [value]
