"""Decodes text files: UTF-8, UTF-16 by its mark, or the encoding that the user names."""

from __future__ import annotations

import codecs
import io
import re
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
    (b"+/v8", "utf-7"),
)
UTF_7 = re.compile(rb"\+[A-Za-z0-9+/]{3,}-")  # letters as ASCII: +AOk- is é
# How files that are no text begin, what they are, and how their names end.
NOT_TEXT = (
    (b"\x1f\x8b", "compressed by gzip", ".gz"),
    (b"PK\x03\x04", "a zip archive or a workbook", ".zip or .xlsx"),
    (b"\xfd7zXZ\x00", "compressed by xz", ".xz"),
    (b"BZh", "compressed by bzip2", ".bz2"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", ".zst"),
    (b"PAR1", "a Parquet file", ".parquet"),
    (b"ARROW1", "an Arrow file", ".arrow"),
    (b"ORC", "an ORC file", ".orc"),
    (b"\xd0\xcf\x11\xe0", "a workbook of old Excel", ".xlsx, once it is saved as such"),
)
GUESSES = ("cp1252", "latin-1")  # what files of Windows and of old systems are
# Characters that no text has: bell to carriage return, end of file and escape may be in one.
NEVER_TEXT = bytes({*range(32), 127} - {*range(7, 14), 26, 27})
MANY_NEVER_TEXT = 0.01  # of the bytes; of random ones it is a tenth
BEGINNING = 4096  # bytes that are looked at for these


@contextmanager
def decoded(
    file: BinaryIO, name: str, options: ReadOptions, newline: str
) -> Iterator[io.TextIOWrapper]:
    """The file as text; it stays open.

    A byte order mark decides; else the encoding of the options, else UTF-8.

    Raises:
        UserError: if it is no text file at all.
    """
    source: Any = file if hasattr(file, "peek") else io.BufferedReader(cast(io.RawIOBase, file))
    begin = source.peek(64)
    head = begin[:64]
    for start, what, suffix in NOT_TEXT:
        if head.startswith(start) and any(byte < 9 or byte > 126 for byte in head):
            raise UserError(
                ExitCode.DATA, f"{name} is {what}, no text: such a name ends in {suffix}."
            )
    marked = _encoding_by_mark(head)
    if marked:
        options.found_mark(marked)
    encoding = marked or options.encoding or "utf-8"
    if encoding == "utf-8":
        _note_utf_7(begin, options)
    text = io.TextIOWrapper(source, encoding=encoding, newline=newline)
    try:
        yield text
    finally:
        text.detach()  # the file is the caller's to close


def _note_utf_7(begin: bytes, options: ReadOptions) -> None:
    """Say that texts have letters of UTF-7, which are ASCII in UTF-8."""
    letters = {sign: _in_utf_7(sign) for sign in UTF_7.findall(begin)} if begin.isascii() else {}
    read = [f"{sign.decode()} is {letter}" for sign, letter in letters.items() if letter]
    if len(read) > 1:
        options.note(
            f"it looks like UTF-7 ({', '.join(read[:3])}); if it is, type "
            f"{options.assigned('encoding', 'utf-7')}"
        )


def _in_utf_7(sign: bytes) -> str:
    """The letters, or nothing where it is something else."""
    try:
        letters = sign.decode("utf-7")
    except UnicodeDecodeError:
        return ""
    return letters if letters.isalpha() and not letters.isascii() else ""


def _encoding_by_mark(head: bytes) -> str | None:
    return next((name for mark, name in MARKS if head.startswith(mark)), None)


def not_decodable(name: str, error: UnicodeDecodeError, options: ReadOptions) -> UserError:
    """The error for a file that is not in the expected encoding, with the line and what to type."""
    if error.encoding.lower().replace("-", "").startswith(("utf16", "utf32")):
        return UserError(
            ExitCode.DATA,
            f"{name} begins as a file in {error.encoding.upper()} and is damaged or cut off "
            f"({error.reason}). Copy it again, or save it as UTF-8.",
        )
    expected = options.encoding or "UTF-8"
    line, content = _first_bad_line(Path(name), options)
    if b"\0" in content or _is_binary(Path(name)):
        return UserError(
            ExitCode.DATA,
            f"{name} is no text file: it has bytes that no text has. Name a file of text.",
        )
    where = "" if line is None else f", line {line}"
    guesses = ("utf-8", *GUESSES) if options.encoding else GUESSES
    guess = next((g for g in guesses if _decodes(content, g)), GUESSES[0])
    sample = "" if not content else f" (read as {guess}: {content.decode(guess, 'replace')[:60]!r})"
    return UserError(
        ExitCode.DATA,
        f"{name}{where}: not {expected} ({error.reason}){sample}. Name its encoding, as in "
        f"{options.assigned('encoding', guess)}, or save the file as UTF-8.",
    )


def has_nul(name: str, line: int, options: ReadOptions) -> UserError:
    """The error for a NUL character, which no text has."""
    return UserError(
        ExitCode.DATA,
        f"{name}, line {line}: has a NUL character, which no text has. If the file is UTF-16, type "
        f"{options.assigned('encoding', 'utf-16-le')}; if it is damaged, remove the character.",
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


def _is_binary(path: Path) -> bool:
    """Whether a file begins with characters that no text has."""
    if not path.is_file():
        return False
    with open_content(path) as (file, _, _):
        begin = file.read(BEGINNING)
    never = len(begin) - len(begin.translate(None, NEVER_TEXT))
    return never > MANY_NEVER_TEXT * len(begin)


def _decodes(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
