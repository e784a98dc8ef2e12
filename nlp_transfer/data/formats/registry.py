"""The registry of readers: which function reads a file, by its suffix or by the format's name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import pyarrow as pa

from nlp_transfer.config.choices import Quoting
from nlp_transfer.config.sections.dataset import COMPRESSED_SUFFIXES
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.registry import Registry

MODULES = ("delimited", "json_rows", "columnar", "excel")
# What to do with files of other kinds.
OTHER_KINDS = {
    **dict.fromkeys((".xls", ".xlsb", ".ods", ".numbers"), "Save it as a workbook (.xlsx)."),
    ".txt": "If it is a table, name it .csv or .tsv.",
    **dict.fromkeys((".dat", ".tab", ".psv", ".asc"), "If it is a table, name it .csv or .tsv."),
    **dict.fromkeys((".pkl", ".pickle"), "Pickles can run code: write it with to_parquet."),
    **dict.fromkeys((".tar", ".tgz", ".7z", ".rar"), "Unpack it and name the file."),
    **dict.fromkeys((".db", ".sqlite", ".sqlite3"), "Export the table as CSV."),
    **dict.fromkeys((".yaml", ".yml", ".xml", ".html"), "Write it as JSON lines."),
}
WINDOW = 4096  # rows: sorted by length they leave little padding, and a kill loses only these

Window: TypeAlias = pa.Table | list[dict[str, Any]]  # JSON rows keep their own shape


@dataclass(frozen=True)
class ReadOptions:
    """How a table file is read."""

    encoding: str | None = None
    """Of text files; None: UTF-8, or UTF-16 by its mark."""
    separator: str | None = None
    """Between cells; None: by the suffix, or as the header shows."""
    sheet: str | None = None
    """Of a workbook."""
    quoting: Quoting = Quoting.double
    """How cells of CSV and TSV are quoted."""
    columns: tuple[str, ...] = ()
    """Those that are needed; none: all of them."""
    keys: str = "dataset."
    """What stands before `encoding` and `separator` where a person types them."""
    note: Callable[[str], None] = field(default=lambda _: None)
    """Takes one sentence about each thing that was decided while reading."""
    found_separator: Callable[[str], None] = field(default=lambda _: None)
    """Takes what stands between the cells of a text file."""
    found_mark: Callable[[str], None] = field(default=lambda _: None)
    """Takes the encoding that the mark at the beginning of a text file names."""

    def assigned(self, key: str, value: str) -> str:
        """What a person types: `dataset.encoding=cp1252` or `--encoding cp1252`."""
        return f"{self.keys}{key}{'=' if self.keys.endswith('.') else ' '}{value}"


Read: TypeAlias = Callable[[BinaryIO, str, ReadOptions], Iterator[Window]]
Lines: TypeAlias = Callable[[BinaryIO, str, ReadOptions], Iterator[int]]


@dataclass(frozen=True)
class Reader:
    """How one format is read.

    `read` takes the open file, its name for messages, and the options; it yields windows of at most
    `WINDOW` rows, Arrow tables or lists of dictionaries, and raises `UserError`. `lines` yields the
    line on which each row begins; None: the format has no lines.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Read
    lines: Lines | None = None


READERS: Registry[Reader] = Registry(
    "format",
    "a format that can be read",
    "nlp_transfer.sources",
    [f"nlp_transfer.data.formats.{name}" for name in MODULES],
)


def register_reader(
    name: str, *suffixes: str, lines: Lines | None = None
) -> Callable[[Read], Read]:
    """Make a file format known by its name; a decorator.

    Args:
        suffixes: of the files, such as `.csv`.
        lines: see `Reader`.

    Raises:
        ValueError: where the name is taken.
    """

    def register(read: Read) -> Read:
        READERS.add(name, Reader(name, tuple(s.lower() for s in suffixes), read, lines), read)
        return read

    return register


def readers() -> dict[str, Reader]:
    """Every reader by its name, those of other packages included."""
    return READERS.complete()


def reader_of(name: str) -> Reader | None:
    """The reader of a file, by its suffix; None for a suffix without a reader."""
    suffix = Path(without_compression(name)).suffix.lower()
    return next((r for r in readers().values() if suffix in r.suffixes), None)


def is_table_name(name: str) -> bool:
    """Whether a name ends as a table file that can be read, compressed or not."""
    return reader_of(name) is not None or Path(name).suffix.lower() == ".zip"


def require_reader(name: str, code: ExitCode = ExitCode.DATA) -> Reader:
    """The reader of a file.

    Raises:
        UserError: with the suffixes that can be read.
    """
    reader = reader_of(name)
    if reader is None:
        suffixes = ", ".join(s for r in readers().values() for s in r.suffixes)
        raise UserError(
            code,
            f"{name} is not one of the known kinds: {suffixes}; each of them also compressed "
            f"({', '.join(COMPRESSED_SUFFIXES)}).{_advice(name)}",
        )
    return reader


def _advice(name: str) -> str:
    suffix = Path(without_compression(name)).suffix.lower()
    return f" {OTHER_KINDS[suffix]}" if suffix in OTHER_KINDS else ""


def without_compression(name: str) -> str:
    """A file's name without the suffix of its compression."""
    path = Path(name)
    return str(path.with_suffix("")) if path.suffix.lower() in COMPRESSED_SUFFIXES else name


def unique_names(names: list[str]) -> list[str]:
    """Column names; one that occurs several times gets its position: `b (column 2)`.

    The libraries behind end a name at a NUL sign, so it becomes a space.
    """
    names = [name.replace("\0", " ") for name in names]
    occurrences = Counter(names)
    return [
        name if occurrences[name] == 1 else f"{name} (column {position})".strip()
        for position, name in enumerate(names, start=1)
    ]
