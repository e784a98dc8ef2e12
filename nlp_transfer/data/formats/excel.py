"""Reads workbooks of Excel (.xlsx) with openpyxl; cells keep their types."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
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


@register_reader("xlsx", ".xlsx")
def read_workbook(file: BinaryIO, name: str, options: ReadOptions) -> Iterator[Window]:
    """One sheet; its first row names the columns.

    Raises:
        UserError: without openpyxl, and where the sheet is not clear.
    """
    try:
        from openpyxl import load_workbook
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError as error:
        raise UserError(
            ExitCode.MACHINE,
            f"{name} needs openpyxl, which is not installed. Type pip install "
            "'nlp_transfer[excel]', or save the sheet as CSV (UTF-8).",
        ) from error
    try:
        book = load_workbook(io.BytesIO(file.read()), read_only=True, data_only=True)
    except (zipfile.BadZipFile, InvalidFileException, KeyError, ValueError) as error:
        raise UserError(ExitCode.DATA, f"{name} is not a workbook of Excel: {error}.") from error
    rows = _rows(book[_sheet(book, name, options)])
    while window := list(islice(rows, WINDOW)):
        yield window


def _sheet(book: Any, name: str, options: ReadOptions) -> str:
    sheets = book.sheetnames
    if options.sheet is not None and options.sheet in sheets:
        return options.sheet
    if options.sheet is None:
        filled = [s for s in sheets if any(c is not None for r in book[s].values for c in r)]
        if len(filled) == 1:
            return filled[0]
        sheets = filled or sheets
    raise UserError(
        ExitCode.DATA,
        f"{name} has the sheets {', '.join(map(repr, sheets))}. Name one of them behind a hash, as "
        f"in {name}#{sheets[0]}",
    )


def _rows(sheet: Any) -> Iterator[dict[str, Any]]:
    rows = iter(sheet.values)
    header = ["" if cell is None else str(cell) for cell in next(rows, ())]
    names = unique_names(header)
    for row in rows:
        if any(cell is not None for cell in row):
            yield dict(zip(names, row, strict=True))
