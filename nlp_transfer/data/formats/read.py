"""Opens a table file by its name: unpacks it, chooses the reader, words the errors."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from nlp_transfer.data.formats.compression import DAMAGED, open_content
from nlp_transfer.data.formats.encodings import not_decodable
from nlp_transfer.data.formats.registry import Reader, ReadOptions, Window, require_reader
from nlp_transfer.errors import ExitCode, UserError


@contextmanager
def open_table(path: Path, options: ReadOptions) -> Iterator[tuple[Iterator[Window], BinaryIO]]:
    """The windows of a file, and the file on the disk, whose position says how much is read."""
    with open_content(path) as (file, inner, raw):
        windows = read_windows(file, require_reader(inner), str(path), options)
        with closing(windows):  # before the file is
            yield windows, raw


def read_windows(
    file: BinaryIO, reader: Reader, name: str, options: ReadOptions
) -> Generator[Window, None, None]:
    """Windows of at most `WINDOW` rows; cells of CSV and TSV are texts.

    Raises:
        UserError: with the line that cannot be read.
    """
    try:
        yield from reader.read(file, name, options)
    except UnicodeDecodeError as error:
        raise not_decodable(name, error, options) from error
    except LookupError as error:
        if "encoding" not in str(error):
            raise
        raise UserError(ExitCode.CONFIG, f"{options.keys}encoding: {error}.") from error
    except UserError:
        raise
    except UnicodeError as error:  # UTF-16 without its mark, say
        raise UserError(
            ExitCode.DATA, f"{name} is not {options.encoding or 'UTF-8'}: {error}."
        ) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise UserError(ExitCode.DATA, f"{name} cannot be read: {error}.") from error
    except (pa.ArrowException, *DAMAGED) as error:
        raise UserError(ExitCode.DATA, f"{name} cannot be read: {error}.") from error


def lines_of(path: Path, rows: Sequence[int], options: ReadOptions) -> dict[int, int]:
    """The line on which each of the rows (from 1 on) begins; nothing, if the file has no lines."""
    if not path.is_file():
        return {}
    numbers = set(rows)
    with open_content(path) as (file, inner, _):
        reader = require_reader(inner)
        if reader.lines is None:
            return {}
        starts = reader.lines(file, str(path), options)
        return {row: line for row, line in enumerate(starts, start=1) if row in numbers}
