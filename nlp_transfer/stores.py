"""Keeps what was computed once: folders named by their content, written aside and renamed whole."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from nlp_transfer.machine import Machine, first_decides, wait

PART = ".part-"  # in the name of a store that is being written
ABANDONED = 2 * 24 * 3600  # seconds without a file begun, after which nobody is writing any more


def find_or_make(
    folder: Path, write: Callable[[Path], None], machine: Machine, found: Callable[[], None]
) -> Path:
    """The store of this name: as it is there, or written now, by all processes together.

    Args:
        folder: `home/key`; the key says all that the content depends on.
        write: called on every process with the folder to fill.
        found: called where there is nothing to write.
    """
    if first_decides(folder.is_dir, machine):
        if machine.is_first:
            os.utime(folder)
        found()
        return folder
    aside = Path(first_decides(lambda: str(_make_aside(folder)), machine))
    try:
        write(aside)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    if machine.is_first:
        try:
            aside.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
            shutil.rmtree(aside)  # another run was faster; its files say the same
    wait(machine)
    return folder


def forget_the_oldest(home: Path, keep_gb: float) -> None:
    """Delete the stores that were not used for longest, until the rest fits."""
    used: list[tuple[float, int, Path]] = []
    for store in home.iterdir():
        with suppress(FileNotFoundError):  # another run has deleted it
            if PART in store.name:  # another run is writing it, or was killed while it did
                if time.time() - store.stat().st_mtime > ABANDONED:
                    shutil.rmtree(store, ignore_errors=True)
                continue
            size = sum(file.stat().st_size for file in store.iterdir())
            used.append((store.stat().st_mtime, size, store))
    used.sort()
    while used and sum(size for _, size, _ in used) > keep_gb * 1e9:
        shutil.rmtree(used.pop(0)[2], ignore_errors=True)


def _make_aside(folder: Path) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f"{folder.name}{PART}", dir=folder.parent))
