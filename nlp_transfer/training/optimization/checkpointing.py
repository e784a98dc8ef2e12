"""Training checkpoints that are whole or not there: sealed with the hashes of their files."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

from nlp_transfer.utils.logging import logger

SEAL = "seal.json"  # in a checkpoint: its files and their SHA-256, written last
STATE = "trainer_state.json"
NAME = re.compile(r"checkpoint-(\d+)")


def seal(folder: Path) -> None:
    """Say that a checkpoint is whole: every file is on the disk, and this is what it holds."""
    for file in _files(folder):
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
    partial = folder / f"{SEAL}.part"
    partial.write_text(json.dumps(_hashes(folder)), encoding="utf-8")
    partial.replace(folder / SEAL)


def is_whole(folder: Path) -> bool:
    """Whether it was sealed, and holds what it held then; if not, the log says what is wrong."""
    if not folder.is_dir():
        return False
    try:
        sealed = json.loads((folder / SEAL).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        logger.info("%s is incomplete: it is ignored", folder)
        return False
    actual = _hashes(folder)
    damaged = sorted(name for name in {*sealed, *actual} if sealed.get(name) != actual.get(name))
    if damaged:
        logger.info("%s is damaged (%s): it is ignored", folder, ", ".join(damaged))
    return not damaged


def newest_whole(home: Path) -> Path | None:
    """The checkpoint with the most steps that is whole."""
    return next(filter(is_whole, reversed(_by_step(home))), None)


def keep_newest(home: Path, count: int) -> None:
    """Delete the others.

    Two are kept, so that a damaged newest one can be replaced by the one before it.
    """
    sealed = [folder for folder in _by_step(home) if (folder / SEAL).is_file()]
    newest = sealed[len(sealed) - count :] if count else []
    for folder in _by_step(home):
        if folder not in newest:
            shutil.rmtree(folder, ignore_errors=True)


def _by_step(home: Path) -> list[Path]:
    if not home.is_dir():
        return []
    steps = {path: NAME.fullmatch(path.name) for path in home.iterdir()}
    numbered = [(int(match[1]), path) for path, match in steps.items() if match]
    return [path for _, path in sorted(numbered)]


def _files(folder: Path) -> list[Path]:
    inside = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in inside if not path.name.startswith(SEAL)]


def _hashes(folder: Path) -> dict[str, str]:
    hashes = {}
    for file in _files(folder):
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        hashes[str(file.relative_to(folder))] = digest
    return hashes
