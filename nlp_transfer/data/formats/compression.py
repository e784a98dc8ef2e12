"""Opens table files, compressed or not."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa

from nlp_transfer.errors import ExitCode, UserError

# What damaged archives fail with; gzip's own error is an OSError.
DAMAGED = (EOFError, zlib.error, zipfile.BadZipFile, gzip.BadGzipFile)


@contextmanager
def open_content(path: Path) -> Iterator[tuple[BinaryIO, str, BinaryIO]]:
    """The content of a file, the name that says its format, and the file on the disk.

    Raises:
        UserError: where the archive is damaged, or has not exactly one member.
    """
    try:
        with path.open("rb") as raw:
            match path.suffix.lower():
                case ".gz":
                    content = cast(BinaryIO, gzip.GzipFile(fileobj=raw))
                    yield content, str(path.with_suffix("")), raw
                case ".zst":
                    stream = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")
                    content = cast(BinaryIO, io.BufferedReader(_Raw(stream)))
                    yield content, str(path.with_suffix("")), raw
                case ".zip":
                    with zipfile.ZipFile(raw) as archive:
                        member = _only_member(archive, path)
                        with archive.open(member) as inner:
                            yield cast(BinaryIO, inner), member.filename, raw
                case _:
                    yield raw, str(path), raw
    except DAMAGED as error:
        raise UserError(
            ExitCode.DATA,
            f"{path} cannot be unpacked: {error or type(error).__name__}. It is damaged, or cut "
            "off; copy it again.",
        ) from error


def _only_member(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    """The one file of an archive; what a Mac adds does not count."""
    members = [
        member
        for member in archive.infolist()
        if not member.is_dir() and not member.filename.startswith("__MACOSX/")
    ]
    if len(members) != 1:
        names = ", ".join(member.filename for member in members[:5]) or "none"
        raise UserError(
            ExitCode.DATA,
            f"{path}: expected an archive of one file, found {len(members)} ({names}). "
            "Unpack it and name the file.",
        )
    if members[0].flag_bits & 1:
        raise UserError(ExitCode.DATA, f"{path} is encrypted. Unpack it and name the file.")
    return members[0]


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
