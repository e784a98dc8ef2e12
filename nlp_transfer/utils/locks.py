"""Locks files between processes; the system frees a lock when its owner dies, also by kill -9."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Locked(Exception):
    """Another process holds the lock."""


@contextmanager
def locked(file: Path, wait: bool) -> Iterator[None]:
    """Hold the lock on a file, which is made where it is missing and stays.

    Args:
        wait: for whoever holds it; else `Locked` is raised.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(file, thread_local=False)
    try:
        lock.acquire(blocking=wait)
    except Timeout as error:
        raise Locked(str(file)) from error
    try:
        yield
    finally:
        lock.release()
