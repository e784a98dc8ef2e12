"""Reads ORC in a process of its own: what a damaged file does to the library ends there.

The lengths in a damaged file can ask for any amount of memory, and where there is less the library
crashes. This file is also what the process runs; it imports nothing of this package there.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import IO, BinaryIO

import pyarrow as pa

MEMORY = 2 << 30  # bytes that the process may have, and
SHARE = 50  # as many more for each byte of the file
DAMAGED = "a length in it asks for more memory than there is; it is damaged, copy it again"


def stream_of(file: BinaryIO) -> Iterator[pa.RecordBatch]:
    """The stripes of an ORC file, the first of them empty; a seekable file is read where it lies.

    Raises:
        pyarrow.ArrowInvalid: it cannot be read.
    """
    file.seek(0)
    with subprocess.Popen(
        [sys.executable, "-P", __file__],  # -P: the modules beside it are not those of Python
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stderr is not None
        try:
            shutil.copyfileobj(file, process.stdin)
            process.stdin.close()
            yield from _batches(process.stdout)
            if process.wait():
                errors = process.stderr.read().decode(errors="replace").strip()
                raise pa.ArrowInvalid(errors or DAMAGED)
        finally:
            process.kill()


def _batches(stream: IO[bytes]) -> Iterator[pa.RecordBatch]:
    """What the process writes, until it ends."""
    try:
        reader = pa.ipc.open_stream(stream)
        yield pa.RecordBatch.from_pylist([], reader.schema)
        yield from reader
    except (pa.ArrowException, OSError):
        return  # it has ended before its time, and its exit code says so


def _main() -> None:
    from pyarrow import orc

    content = sys.stdin.buffer.read()
    try:
        import resource

        most = MEMORY + SHARE * len(content)
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
    except (ImportError, ValueError, OSError):
        pass  # Windows, or a limit that is lower already
    try:
        file = orc.ORCFile(pa.BufferReader(content))
        with pa.ipc.new_stream(sys.stdout.buffer, file.schema) as stream:
            for stripe in range(file.nstripes):
                stream.write_batch(file.read_stripe(stripe))
    except (pa.ArrowException, OSError, MemoryError) as error:
        print(error, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    _main()
