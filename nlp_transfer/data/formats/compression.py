"""Opens table files, compressed or not."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import pyarrow as pa

from nlp_transfer.config.sections.dataset import COMPRESSED_SUFFIXES
from nlp_transfer.errors import ExitCode, UserError

# What damaged archives fail with; gzip's own error is an OSError.
DAMAGED: tuple[type[Exception], ...] = (
    EOFError,
    zlib.error,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    lzma.LZMAError,
    NotImplementedError,  # a zip of a method that Python does not have
)
UNPACKING_FAILS_WITH: tuple[type[Exception], ...] = (*DAMAGED, OSError)
# What systems add to archives beside the file that is meant.
ADDED = ("Thumbs.db", "desktop.ini")


@contextmanager
def open_content(path: Path) -> Iterator[tuple[BinaryIO, str, BinaryIO]]:
    """The content of a file, the name that says its format, and the file on the disk.

    Raises:
        UserError: where the archive is damaged, or has not exactly one member.
    """
    with path.open("rb") as raw:
        if path.suffix.lower() not in COMPRESSED_SUFFIXES:
            yield raw, str(path), raw
            return
        try:
            with _unpacked(path, raw) as (content, name):
                yield content, name, raw
        except UNPACKING_FAILS_WITH as error:
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
                raise  # of the disk; a damaged archive may name a place before its begin
            raise UserError(
                ExitCode.DATA,
                f"{path} cannot be unpacked: {error or type(error).__name__}. It is damaged, or "
                "cut off; copy it again.",
            ) from error


@contextmanager
def _unpacked(path: Path, raw: BinaryIO) -> Iterator[tuple[BinaryIO, str]]:
    """The content of an archive, and the name that says its format."""
    inner_name = str(path.with_suffix(""))
    match path.suffix.lower():
        case ".gz":
            yield cast(BinaryIO, gzip.GzipFile(fileobj=raw)), inner_name
        case ".bz2":
            with bz2.open(raw) as content:
                yield cast(BinaryIO, content), inner_name
        case ".xz":
            with lzma.open(raw) as content:
                yield cast(BinaryIO, content), inner_name
        case ".zst":
            stream = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")
            yield cast(BinaryIO, io.BufferedReader(_Raw(stream))), inner_name
        case _:
            with zipfile.ZipFile(raw) as archive:
                member = _only_member(archive, path)
                with _opened(archive, member) as inner:
                    yield cast(BinaryIO, inner), member.filename


def _only_member(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    """The one file of an archive; what a Mac adds does not count."""
    members = [
        member
        for member in archive.infolist()
        if not member.filename.endswith("/") and not _is_added(member.filename)
    ]
    if len(members) != 1:
        names = ", ".join(member.filename for member in members[:5]) or "none"
        raise UserError(
            ExitCode.DATA,
            f"{path}: expected an archive of one file, found {len(members)} ({names}). "
            "Unpack it and name the file.",
        )
    if not members[0].filename:  # zipfile fails with an IndexError
        raise zipfile.BadZipFile("its member has no name")
    if members[0].flag_bits & 1:
        raise UserError(ExitCode.DATA, f"{path} is encrypted. Unpack it and name the file.")
    return members[0]


def _opened(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> IO[bytes]:
    try:
        return archive.open(member)
    except UnicodeDecodeError as error:  # the name before the content, unlike that of the index
        raise zipfile.BadZipFile("the name of its member is not UTF-8") from error


def _is_added(name: str) -> bool:
    last = name.rpartition("/")[2]
    return name.startswith("__MACOSX/") or last.startswith(".") or last in ADDED


class _Raw(io.RawIOBase):
    """An Arrow stream as a file of Python."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self.stream.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)
