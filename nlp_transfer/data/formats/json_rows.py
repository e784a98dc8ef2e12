"""Reads JSON: one object a line, an array of objects, or pandas' columns."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, BinaryIO

from nlp_transfer.data.cells import about_half
from nlp_transfer.data.formats.encodings import decoded, has_nul
from nlp_transfer.data.formats.registry import WINDOW, ReadOptions, Window, register_reader
from nlp_transfer.errors import ExitCode, UserError

CONSTANTS = {"NaN": None, "Infinity": math.inf, "-Infinity": -math.inf}
Row = dict[str, Any]
Lines = Iterator[tuple[int, str]]  # those that are not empty, with their numbers


def line_starts(file: BinaryIO, name: str, options: ReadOptions) -> Iterator[int]:
    """The line of each object; nothing where the file is one document."""
    with decoded(file, name, options, newline="\n") as text:
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
    with decoded(file, name, options, newline="\n") as text:
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
        # NaN is how pandas writes what is missing. An error at the end is on the last line.
        value = json.loads(
            text.rstrip(), parse_constant=CONSTANTS.get, object_pairs_hook=_refuse_doubled_keys
        )
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()  # half of a character is no text
        return value
    except UnicodeEncodeError as error:
        raise UserError(
            ExitCode.DATA, f"{name}, line {line}: {about_half(error.object)}"
        ) from error
    except RecursionError as error:
        raise UserError(ExitCode.DATA, f"{name}, line {line}: nested too deeply.") from error
    except _DoubledKeyError as error:
        raise UserError(
            ExitCode.DATA,
            f"{name}, line {line}: an object has the key {str(error)!r} more than once: give each "
            "of them a name of its own.",
        ) from error
    except ValueError as error:
        at = line + error.lineno - 1 if isinstance(error, json.JSONDecodeError) else line
        raise UserError(
            ExitCode.DATA,
            f"{name}, line {at}: expected one JSON object a line, or one array of objects: "
            f"{error}.{_notation(text)}",
        ) from error


def _notation(text: str) -> str:
    python = re.match(r"\s*[\[{]\s*'", text)
    return " JSON has double quotes; this looks like Python's repr." if python else ""


class _DoubledKeyError(Exception):
    """An object has a key twice."""


def _refuse_doubled_keys(pairs: list[tuple[str, Any]]) -> Row:
    """An object that has each key once; of a key given twice JSON would keep the last one alone.

    Raises:
        _DoubledKeyError: with the key.
    """
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _DoubledKeyError(next(key for key in keys if keys.count(key) > 1))
    return row


def _document(first: tuple[int, str], rest: Lines, name: str, options: ReadOptions) -> list[Row]:
    """The rows of a file that is one JSON value."""
    number, line = first
    # A first line that begins no array and no object of several lines is the fault itself.
    opens = line.strip() in ("[", "{") or line.lstrip()[:1] == "["
    whole = line + "".join(text for _, text in rest) if opens else line
    value = _parsed(whole, number, name)
    rows = _rows_of(value, options)
    if rows is None and isinstance(value, dict):
        lists = [key for key, cell in value.items() if _are_rows(cell)]
        raise UserError(
            ExitCode.DATA,
            f"{name} is one object with the tables {', '.join(map(repr, lists))}: write each into "
            "a file of its own.",
        )
    if rows is None:
        raise UserError(
            ExitCode.DATA,
            f"{name}, line {number}: expected a JSON object a line, or an array of objects, found "
            f"{line[:40].rstrip()!r}.",
        )
    options.note(f"{name} is one JSON document of {len(rows):,} rows")
    return rows


def _rows_of(value: Any, options: ReadOptions) -> list[Row] | None:
    """The rows of a document; None where it holds none, or several tables.

    An array of objects, also as the one table inside an object; pandas' orients `columns`, `index`,
    `split` and `table`; one row.
    """
    if isinstance(value, list):
        return value if _are_rows(value) else None
    if not isinstance(value, dict):
        return None
    fields = {column.partition(".")[0] for column in options.columns}
    if {"columns", "data"} <= set(value) and isinstance(value["columns"], list):
        return _rows_of_split(value)
    if not (fields and fields <= set(value)):
        tables = _tables(value, fields)
        if len(tables) == 1:
            return tables[0]
        if len(tables) > 1:
            return None
    return _rows_by_column(value, fields) or [value]


def _tables(value: Row, fields: set[str]) -> list[list[Row]]:
    """The tables inside an object: of several those with the columns that are read.

    One level deeper, as in the answers of web services, only tables with these columns count.
    """
    tables = [cell for cell in value.values() if _are_rows(cell)]
    if len(tables) > 1:
        return [table for table in tables if fields and fields <= set(table[0])] or tables
    if tables or not fields:
        return tables
    inner = [cell for part in value.values() if isinstance(part, dict) for cell in part.values()]
    return [cell for cell in inner if _are_rows(cell) and fields <= set(cell[0])]


def _are_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _rows_of_split(value: Row) -> list[Row] | None:
    columns, data = value["columns"], value["data"]
    if not isinstance(data, list) or not all(isinstance(row, list) for row in data):
        return None
    if any(len(row) != len(columns) for row in data):
        return None
    return [dict(zip(map(str, columns), row, strict=True)) for row in data]


def _rows_by_column(value: Row, fields: set[str]) -> list[Row] | None:
    """The rows of an object of objects (by column or by row) or of lists, if it is one."""
    cells = list(value.values())
    if cells and all(isinstance(cell, dict) and cell for cell in cells):
        keys = list(cells[0])
        alike = all(list(cell) == keys for cell in cells)
        if alike and (all(key.isdigit() for key in keys) or (fields and fields <= set(value))):
            return [{name: cell[key] for name, cell in value.items()} for key in keys]
        if fields and all(fields <= set(cell) for cell in cells):
            return cells
    lists = [cell for cell in cells if isinstance(cell, list)]
    if len(lists) == len(cells) > 1 and len({len(cell) for cell in lists}) == 1:
        return [dict(zip(value, row, strict=True)) for row in zip(*cells, strict=True)]
    return None
