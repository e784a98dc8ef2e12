"""Reads workbooks of Excel (.xlsx) with openpyxl; cells keep their types."""

from __future__ import annotations

import io
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, BinaryIO

from nlp_transfer.data.formats.registry import (
    WINDOW,
    ReadOptions,
    Window,
    register_reader,
    unique_names,
)
from nlp_transfer.errors import ExitCode, UserError

# What openpyxl fails with on files that are no workbooks, or are damaged.
DAMAGED: tuple[type[Exception], ...] = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    NotImplementedError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    IndexError,
    SyntaxError,
)
ERRORS = frozenset(("#N/A", "#REF!", "#NAME?", "#VALUE!", "#DIV/0!", "#NUM!", "#NULL!", "#SPILL!"))
OLD = b"\xd0\xcf\x11\xe0"  # how files of old Excel and encrypted workbooks begin


def sheet_rows(file: BinaryIO, name: str, options: ReadOptions) -> Iterator[int]:
    """The row of the sheet, as Excel counts, in which each row of the table stands."""
    with _opened(file.read(), name) as book:
        yield from (number for number, _ in _rows(book[_sheet(book, name, options)]))


@register_reader("xlsx", ".xlsx", ".xlsm", lines=sheet_rows)
def read_workbook(file: BinaryIO, name: str, options: ReadOptions) -> Iterator[Window]:
    """One sheet; its first row names the columns.

    Raises:
        UserError: without openpyxl, and where the sheet is not clear.
    """
    content = file.read()
    with _opened(content, name) as book:
        sheet = _sheet(book, name, options)
        rows = (row for _, row in _rows(book[sheet]))
        window = list(islice(rows, WINDOW))
        _refuse_formulas(content, sheet, _empty_columns(window), name)
        while window:
            yield window
            window = list(islice(rows, WINDOW))


@contextmanager
def _opened(content: bytes, name: str) -> Iterator[Any]:
    """The workbook; what fails while it is read is one error.

    Raises:
        UserError: without openpyxl, and where this is no workbook.
    """
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise UserError(
            ExitCode.MACHINE,
            f"{name} needs openpyxl, which is not installed. Type pip install "
            "'nlp_transfer[excel]', or save the sheet as CSV (UTF-8).",
        ) from error
    if content.startswith(OLD):
        raise UserError(
            ExitCode.DATA,
            f"{name} is encrypted, or a workbook of old Excel (.xls). Save it as .xlsx without a "
            "password.",
        )
    try:
        # Its warnings are about formats and rules of cells, which are not read.
        with warnings.catch_warnings(action="ignore"):
            yield load_workbook(io.BytesIO(content), read_only=True, data_only=True)
    except UserError:
        raise
    except DAMAGED as error:
        raise UserError(ExitCode.DATA, f"{name} is not a workbook of Excel: {error}.") from error


def _sheet(book: Any, name: str, options: ReadOptions) -> str:
    sheets = book.sheetnames
    if options.sheet is not None and options.sheet in sheets:
        return options.sheet
    if options.sheet is None:
        filled = [s for s in sheets if any(c is not None for r in book[s].values for c in r)]
        if not filled:
            raise UserError(ExitCode.DATA, f"{name} is an empty workbook: expected labelled texts.")
        if len(filled) == 1:
            return filled[0]
        sheets = filled or sheets
    raise UserError(
        ExitCode.DATA,
        f"{name} has the sheets {', '.join(map(repr, sheets))}. Name one of them behind a hash, as "
        f"in {name}#{sheets[0]}",
    )


def _rows(sheet: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows that are not empty, with their numbers on the sheet, from 1 on."""
    rows = iter(sheet.values)
    header = ["" if cell is None else str(cell) for cell in next(rows, ())]
    names = unique_names(header)
    for number, row in enumerate(rows, start=2):
        # What Excel could not compute is no cell.
        cells = [None if cell in ERRORS else cell for cell in row]
        if any(cell is not None for cell in cells):
            missing = [None] * (len(names) - len(cells))
            yield number, dict(zip(names, [*cells, *missing], strict=False))


def _empty_columns(window: Window) -> list[str]:
    columns = list(window[0]) if window else []
    return [c for c in columns if all(row[c] is None for row in window)]


def _refuse_formulas(content: bytes, sheet: str, columns: list[str], name: str) -> None:
    """Stop where empty columns are formulas without saved results."""
    if not columns:
        return
    from openpyxl import load_workbook

    book = load_workbook(io.BytesIO(content), read_only=True, data_only=False)
    for _, row in islice(_rows(book[sheet]), WINDOW):
        for column in columns:
            if str(row.get(column)).startswith("="):
                raise UserError(
                    ExitCode.DATA,
                    f"{name}: the column {column!r} holds formulas whose results are not saved. "
                    "Open the workbook in a program of spreadsheets and save it there.",
                )
