"""Finds columns by their names: as written, without outer spaces, or inside nested objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from nlp_transfer.errors import ExitCode, UserError

ALIKE = 0.7  # 'Ticket' is no misspelling of 'text', 'txt' is one
LONG_NAME = 4  # words of a header cell that looks like a text
AT_ONCE = 10_000  # rows


def find_column(columns: Sequence[str], name: str) -> tuple[str, tuple[str, ...]] | None:
    """The column of this name, and the path to a field inside it; None: there is none.

    `payload.body` is the field `body` of the column `payload`, where no column has that name.
    """
    if name in columns:
        return name, ()
    stripped = [column for column in columns if column.strip() == name.strip()]
    if len(stripped) == 1:
        return stripped[0], ()
    parts = name.split(".")
    for size in range(len(parts) - 1, 0, -1):
        head = ".".join(parts[:size])
        if head in columns:
            return head, tuple(parts[size:])
    return None


def each_cell(rows: Any, column: str) -> Iterator[Any]:
    """The cells of a column, read in windows: the library's own loop takes 25 µs for each.

    Args:
        rows: a `datasets.Dataset`, which is not imported here.
    """
    cells = rows[column]
    for start in range(0, len(rows), AT_ONCE):
        yield from cells[start : start + AT_ONCE]


def cells_of(
    columns: Sequence[str], name: str, read: Callable[[str], Sequence[Any]]
) -> Sequence[Any]:
    """The cells of a column or nested field; None in rows that lack the field.

    Args:
        read: the cells of one of the columns.

    Raises:
        KeyError: where there is no such column or field.
    """
    place = find_column(columns, name)
    if place is None:
        raise KeyError(name)
    cells, path = read(place[0]), place[1]
    for field in path:
        present = any(isinstance(cell, dict) and field in cell for cell in cells)
        if cells and not present:
            raise KeyError(name)
        cells = [cell.get(field) if isinstance(cell, dict) else None for cell in cells]
    return cells


def require_columns(
    columns: Sequence[str],
    required: Iterable[tuple[str, str | None]],
    where: str,
    read: Callable[[str], Sequence[Any]],
) -> None:
    """Refuse a table that lacks columns; all that are missing in one message.

    Args:
        required: key or flag and column, as `("dataset.text", "text")`; None: none is required.
        where: the file, for the message.

    Raises:
        UserError: with the columns that there are.
    """
    missing = []
    for key, name in required:
        if name is None:
            continue
        place = find_column(columns, name)
        try:
            if place is None or place[1]:
                cells_of(columns, name, read)
        except KeyError:
            missing.append((key, name))
    if not missing:
        return
    assigned = "; ".join(
        f"{key}{'=' if '.' in key else ' '}{name!r} is not a column of {where}"
        for key, name in missing
    )
    shown = ", ".join(c if _is_plain(c) else repr(c) for c in columns)
    keys = " and ".join(key for key, _ in missing)
    names = [name for _, name in missing]
    raise UserError(
        ExitCode.DATA,
        f"{assigned}; it has {shown}. Set {keys} to one of them."
        f"{_read_otherwise(columns, missing)}"
        f"{_separated(columns, names) or _nearest(columns, names)}{_no_header(columns)}",
    )


def _read_otherwise(columns: Sequence[str], missing: Sequence[tuple[str, str]]) -> str:
    """How to type a column such as `1e5` or `true`, which a command line reads as a value."""
    for key, name in missing:
        for column in columns:
            if column != name and "." in key and _as_value(column) == name:
                return f" {column} is read as {name}: type \"{key}='{column}'\"."
    return ""


def _as_value(name: str) -> str | None:
    """The text of the number, or of true or false, that a name is; None: it is none."""
    if name.lower() in ("true", "false"):
        return name.capitalize()
    for kind in (int, float):
        try:
            return str(kind(name))
        except ValueError:
            continue
    return None


def _is_plain(name: str) -> bool:
    """Whether a name can be told from its neighbours without quotes."""
    return bool(name) and name == name.strip() and "," not in name and name.isprintable()


def _separated(columns: Sequence[str], names: Sequence[str]) -> str:
    """A hint for a file whose one column is several, with a sign between them."""
    signs = set(columns[0]) - set("".join(names)) if len(columns) == 1 else ()
    for sign in sorted(signs):
        if set(names) <= {cell.strip() for cell in columns[0].split(sign)}:
            return f" Its columns seem to be separated by {sign!r}: name it as the separator."
    return ""


def _nearest(columns: Sequence[str], names: Sequence[str]) -> str:
    hints = []
    for name in names:
        twice = [column for column in columns if column.startswith(f"{name} (column ")]
        if len(twice) > 1:
            hints.append(
                f" It has {name!r} more than once: give each of these columns a name of its own."
            )
            continue
        folded = {column.casefold(): column for column in columns}
        close = get_close_matches(name.casefold(), folded, n=1, cutoff=ALIKE)
        if close:
            hints.append(f" Did you mean {folded[close[0]]!r}?")
    return "".join(hints)


def _no_header(columns: Sequence[str]) -> str:
    """A hint for a file whose first line seems to be a row."""
    nameless = [c for c in columns if not c or c.startswith("(column ")]
    if len(columns) > 1 and 2 * len(nameless) >= len(columns):
        return " The first line names the columns; remove the lines before it."
    texts = [c for c in columns if len(c.split()) >= LONG_NAME]
    if not texts:
        return ""
    return (
        " The first line names the columns; if it is a row here, put a line with names before it, "
        "such as text,label."
    )
