"""Keeps what was computed once: folders named by their content, written aside and renamed whole."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.utils.distributed import ProcessContext, broadcast_from_first_of_node, wait
from nlp_transfer.utils.locks import locked

LOCK = ".lock-"  # and the name of the store that a run makes just now
PART = ".part-"  # in the name of a store that is being written
OURS = re.compile(
    rf"[0-9a-f]{{24}}({re.escape(PART)}\w+)?"
)  # a folder that the user names may hold other files
ABANDONED = 2 * 24 * 3600  # seconds without a file begun, after which its writer counts as dead


def find_or_make(
    folder: Path,
    begin: Callable[[Path], None],
    fill: Callable[[Path], None],
    process: ProcessContext,
    on_hit: Callable[[], None],
) -> Path:
    """The store of this name: as it is there, or written now. Every node has its own, or sees it.

    A second run that wants the same store at once waits for the first.

    Args:
        folder: `home/key`; the key says all that the content depends on.
        begin: called on the first process of a node that lacks it, with the folder to prepare.
        fill: called after that on every process of such a node.
        on_hit: called where there is nothing to write.
    """
    with _alone(folder) if process.is_first else nullcontext():
        here = broadcast_from_first_of_node(folder.is_dir, process)
        if here and process.is_first_of_node:
            os.utime(folder)
        partial = Path(
            broadcast_from_first_of_node(
                lambda: str(folder if here else _write_partial(folder, begin)), process
            )
        )
        if here:
            on_hit()
        else:
            _fill(partial, fill)
        wait(process)
        if not here and process.is_first_of_node:
            try:
                partial.rename(folder)
            except OSError:
                if not folder.is_dir():
                    raise
                shutil.rmtree(partial)  # another node was faster; its files say the same
        wait(process)
    return folder


def forget_the_oldest(home: Path, keep_gb: float) -> None:
    """Delete the stores that were not used for longest, until the rest fits."""
    used: list[tuple[float, int, Path]] = []
    for store in home.iterdir():
        if not (OURS.fullmatch(store.name) and store.is_dir()):
            continue
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


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """While this lasts, no other run makes the same store."""
    file = folder.parent / f"{LOCK}{folder.name}"
    with _disk_errors_reported(folder.parent), ExitStack() as stack:
        folder.parent.mkdir(parents=True, exist_ok=True)
        stack.enter_context(locked(file, wait=True))
        held = stack.pop_all()
    with held:
        try:
            yield
        finally:  # a process that waits finds the store; a later one makes its own lock
            file.unlink(missing_ok=True)


@contextmanager
def _disk_errors_reported(home: Path) -> Iterator[None]:
    """Turn errors of the disk into a `UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            ExitCode.RUN_FOLDER,
            f"{home} cannot be written: {error.strerror or error}. Make room there, or work in "
            "another folder (nlp-transfer train: tokenization.folder and features.folder); the "
            "same command continues.",
        ) from error


def _write_partial(folder: Path, begin: Callable[[Path], None]) -> Path:
    with _disk_errors_reported(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}{PART}", dir=folder.parent))
    _fill(partial, begin)
    return partial


def _fill(partial: Path, fill: Callable[[Path], None]) -> None:
    try:
        with _disk_errors_reported(partial.parent):
            fill(partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
