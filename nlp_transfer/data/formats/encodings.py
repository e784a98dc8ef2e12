"""Decodes text files: UTF-8, UTF-16 by its mark, or the encoding that the user names."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from nlp_transfer.data.formats.compression import open_content
from nlp_transfer.data.formats.registry import ReadOptions
from nlp_transfer.errors import ExitCode, UserError

# The longer marks first: that of UTF-32 begins like that of UTF-16.
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
GUESSES = ("cp1252", "latin-1")  # what files of Windows and of old systems are


@contextmanager
def decoded(file: BinaryIO, options: ReadOptions, newline: str) -> Iterator[io.TextIOWrapper]:
    """The file as text; it stays open.

    A byte order mark decides; else the encoding of the options, else UTF-8.
    """
    source: Any = file if hasattr(file, "peek") else io.BufferedReader(cast(io.RawIOBase, file))
    head = source.peek(4)[:4]
    encoding = next((name for mark, name in MARKS if head.startswith(mark)), None)
    encoding = encoding or options.encoding or "utf-8"
    text = io.TextIOWrapper(source, encoding=encoding, newline=newline)
    try:
        yield text
    finally:
        text.detach()  # the file is the caller's to close


def not_decodable(name: str, error: UnicodeDecodeError, options: ReadOptions) -> UserError:
    """The error for a file that is not in the expected encoding, with the line and what to type."""
    expected = options.encoding or "UTF-8"
    line, content = _first_bad_line(Path(name), options)
    where = "" if line is None else f", line {line}"
    key = f"{options.keys}encoding"
    guess = next((g for g in GUESSES if _decodes(content, g)), GUESSES[0])
    assign = "=" if options.keys.endswith(".") else " "
    excerpt = (
        "" if not content else f" (read as {guess}: {content.decode(guess, 'replace')[:60]!r})"
    )
    return UserError(
        ExitCode.DATA,
        f"{name}{where}: not {expected} ({error.reason}){excerpt}. Name its encoding, as in "
        f"{key}{assign}{guess}, or save the file as UTF-8.",
    )


def has_nul(name: str, line: int, options: ReadOptions) -> UserError:
    """The error for a NUL character, which no text has."""
    assign = "=" if options.keys.endswith(".") else " "
    return UserError(
        ExitCode.DATA,
        f"{name}, line {line}: has a NUL character, which no text has. If the file is UTF-16, type "
        f"{options.keys}encoding{assign}utf-16-le; if it is damaged, remove the character.",
    )


def _first_bad_line(path: Path, options: ReadOptions) -> tuple[int | None, bytes]:
    """The number and content of the line; None where the file is a pipe and gone."""
    if not path.is_file():
        return None, b""
    with open_content(path) as (file, _, _):
        for number, line in enumerate(file, start=1):
            if not _decodes(line, options.encoding or "utf-8-sig"):
                return number, line.strip()
    return None, b""


def _decodes(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
