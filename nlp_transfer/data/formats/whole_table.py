"""Reads a file as one table: a small one into memory, a large one into a temporary file."""

from __future__ import annotations

import atexit
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from nlp_transfer.data.formats.read import lines_of, open_table
from nlp_transfer.data.formats.registry import ReadOptions, Window, unique_names
from nlp_transfer.data.formats.windows import columns_of, raw_column
from nlp_transfer.errors import ExitCode, UserError

MOST_IN_MEMORY = 1 << 26  # bytes


def whole_table(path: Path, options: ReadOptions) -> pa.Table:
    """All rows; of JSON every column with one type, which they must fit."""

    def windows() -> Iterator[Window]:
        with open_table(path, options) as (every, _):
            yield from every

    rest = windows()
    first = next(rest, None)
    if first is None:
        return pa.table({})
    if isinstance(first, list):
        table = _rows_in_windows(chain([first], rest))
        return _rows_at_once(windows(), path, options) if table is None else table
    begun = [chain([first], rest)]  # read again, the file is opened again
    return gathered(lambda: begun.pop() if begun else windows())


def _rows_in_windows(windows: Iterable[Window]) -> pa.Table | None:
    """Rows of JSON, where each column has one type in all windows; else None."""
    parts = []
    for window in windows:
        names = columns_of(window)
        try:
            parts.append(pa.table({name: raw_column(window, name) for name in names}))
        except (pa.ArrowException, TypeError, OverflowError):
            return None
        if not names:
            return None  # a table without columns has no rows
    try:
        table = pa.concat_tables(parts, promote_options="default")
    except (pa.ArrowException, TypeError):
        return None
    return table.rename_columns(unique_names(table.column_names))


def _rows_at_once(windows: Iterable[Window], path: Path, options: ReadOptions) -> pa.Table:
    """Rows of JSON whose columns have the type that all cells together show.

    Raises:
        UserError: where the cells of a column that is needed have none.
    """
    rows = [row for window in windows for row in window]
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {}
    for name in names:
        cells = [row.get(name) for row in rows]
        try:
            columns[name] = pa.array(cells)
        except (pa.ArrowException, OverflowError) as error:
            if options.columns and not any(_root(c, name) for c in options.columns):
                continue  # it is not needed
            raise _not_one_type(cells, name, path, options, error) from error
    return pa.table(columns).rename_columns(unique_names(list(columns)))


def _root(name: str, column: str) -> bool:
    """Whether a column, or a field inside it, may be meant."""
    return name.strip() == column.strip() or name.startswith(f"{column}.")


def _not_one_type(
    cells: list[Any], name: str, path: Path, options: ReadOptions, error: Exception
) -> UserError:
    """The error for a column of cells of several types, with the first two that differ."""
    kinds = [type(cell).__name__ for cell in cells]
    first = next(i for i, cell in enumerate(cells) if cell is not None)
    numbers = {"int", "float"}
    other = next(
        (
            i
            for i, kind in enumerate(kinds)
            if kind not in ("NoneType", kinds[first]) and not {kind, kinds[first]} <= numbers
        ),
        None,
    )
    if other is None:  # lists of different things, or numbers too large
        message = f"{path}: the cells of {name!r} do not fit into one column: {error}."
        if cells and any(isinstance(cell, list) for cell in cells):
            example = next(cell for cell in cells if isinstance(cell, list) and cell)
            message += f" A list holds texts or numbers alone; found {str(example)[:60]!r}."
        return UserError(ExitCode.DATA, message)
    lines = lines_of(path, [first + 1, other + 1], options)
    places = [f"line {lines[i + 1]}" if i + 1 in lines else f"row {i + 1}" for i in (other, first)]
    return UserError(
        ExitCode.DATA,
        f"{path}, {places[0]}: {name!r} holds {cells[other]!r}, where {places[1]} holds "
        f"{cells[first]!r}. Write all as texts, or all as numbers.",
    )


def gathered(read: Callable[[], Iterable[pa.Table]]) -> pa.Table:
    """Tables of the same columns as one.

    A large one lies in a file, of which the system keeps in memory what there is room for. Where
    no such file can be written, the tables are read again, into memory.
    """
    try:
        return _gathered(read(), MOST_IN_MEMORY)
    except OSError:
        return _gathered(read(), None)


def _gathered(tables: Iterable[pa.Table], most: int | None) -> pa.Table:
    held: list[pa.Table] = []
    iterator, size = iter(tables), 0
    for table in iterator:
        held.append(table)
        size += table.nbytes
        if most is not None and size > most:
            return _in_a_file(held, iterator)
    return pa.concat_tables(held) if held else pa.table({})


def _in_a_file(held: list[pa.Table], rest: Iterable[pa.Table]) -> pa.Table:
    """The tables, mapped from a file without a name; `held` is emptied."""
    with tempfile.NamedTemporaryFile(suffix=".arrow", delete=False) as temporary:
        path = Path(temporary.name)
    try:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, held[0].schema) as stream:
            while held:
                stream.write_table(held.pop(0))
            for table in rest:
                stream.write_table(table)
        return pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
    finally:
        try:
            path.unlink()  # the system removes it when it is no longer mapped
        except PermissionError:  # Windows removes no file that is read
            atexit.register(_remove, path)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
