"""Answers on the disk, a line of JSON each, before the next row is shown."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.utils.files import sync_folder


class Journal:
    """A file that only grows; what is in it survives the process and the machine.

    A line that was cut off while it was written is dropped: its answer was never confirmed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[dict[str, Any]] = []
        content = path.read_bytes() if path.is_file() else b""
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), start=1):
            self.entries.append(_entry(line, path, number))
        self._file = path.open("ab", buffering=0)
        self._file.truncate(len(whole))
        sync_folder(path.parent)

    def append(self, entry: dict[str, Any]) -> None:
        """Add one entry; it is on the disk when this returns.

        Raises:
            OSError: it is not; the journal is as it was.
        """
        line = json.dumps(entry, ensure_ascii=False).encode() + b"\n"
        size = os.fstat(self._file.fileno()).st_size
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(size)
            raise
        self.entries.append(entry)

    def start_again(self, entry: dict[str, Any]) -> None:
        """Forget all entries, and begin with this one."""
        self._file.truncate(0)
        self.entries = []
        self.append(entry)

    def close(self) -> None:
        """Nothing more is added."""
        self._file.close()


def _entry(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        entry = json.loads(line)
        if not isinstance(entry, dict):
            raise ValueError("no object")
    except ValueError as error:
        raise UserError(
            ExitCode.DATA,
            f"Line {number} of {path} is damaged ({error}): expected answers of a review, one "
            "object of JSON a line. Mend the line, or move the file away.",
        ) from error
    return entry
