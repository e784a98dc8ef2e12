"""Writes one sheet of a workbook of Excel (.xlsx) with openpyxl, row by row."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from datetime import date, time
from decimal import Decimal
from typing import Any, BinaryIO

from nlp_transfer.errors import ExitCode, UserError

# What Excel can hold: https://support.microsoft.com, "Excel specifications and limits".
MOST_ROWS = 1_048_576
MOST_COLUMNS = 16_384
LONGEST_CELL = 32_767  # characters; openpyxl cuts longer ones off without a word
DIGITS = 15  # of a number; longer ones lose their last ones
FIRST_YEAR = 1900
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")  # in XML 1.0
ADVICE = "Write the table as .csv or .parquet."


def write_workbook(columns: Sequence[str], rows: Iterable[Sequence[Any]], file: BinaryIO) -> None:
    """A workbook of one sheet, whose first row names the columns.

    Raises:
        UserError: if a sheet cannot hold so many rows or columns, or one of the cells.
    """
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell

    if len(columns) > MOST_COLUMNS:
        raise _refusal(f"{len(columns):,} columns are more than the {MOST_COLUMNS:,} of a sheet")
    book = Workbook(write_only=True)
    sheet = book.create_sheet("table")

    def cell(value: Any) -> Any:
        value = workbook_cell(value)
        if not isinstance(value, str):
            return value
        text_cell = WriteOnlyCell(sheet, value)
        text_cell.data_type = "s"  # also where it begins as a formula or an error does
        return text_cell

    try:
        sheet.append([cell(name) for name in columns])
        for number, row in enumerate(rows, start=2):
            if number > MOST_ROWS:
                raise _refusal(f"There are more rows than the {MOST_ROWS:,} of a sheet")
            sheet.append([cell(value) for value in row])
    except UserError:
        sheet.close()  # ends its temporary file
        raise
    book.save(file)


def workbook_cell(value: Any) -> Any:
    """The value as Excel holds it; what would lose digits or a time zone is a text.

    Raises:
        UserError: if no cell can hold it.
    """
    match value:
        case None | bool():
            return value
        case str():
            return _text(value)
        case int() | float() | Decimal():
            return _number(value)
        case date() | time():  # a datetime is a date
            early = isinstance(value, date) and value.year < FIRST_YEAR
            return value.isoformat() if early or getattr(value, "tzinfo", None) else value
        case _:
            raise _refusal(f"No workbook can hold {type(value).__name__} values")


def _text(value: str) -> str:
    if len(value) > LONGEST_CELL:
        most = f"the {LONGEST_CELL:,} that a cell of a workbook holds"
        raise _refusal(f"A text of {len(value):,} signs is longer than {most}")
    if (found := FORBIDDEN.search(value)) is not None:
        raise _refusal(f"No workbook can hold the sign {found[0]!r}, found in {value[:40]!r}")
    return value


def _number(value: float | Decimal) -> float | Decimal | str | None:
    if not math.isfinite(value):
        return None
    if isinstance(value, Decimal):
        return value if len(value.as_tuple().digits) <= DIGITS else str(value)
    return str(value) if isinstance(value, int) and abs(value) >= 10**DIGITS else value


def _refusal(what: str) -> UserError:
    return UserError(ExitCode.DATA, f"{what}. {ADVICE}")
