"""Reads a pool of texts, leaves duplicates out, and keeps what a model says of the others."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nlp_transfer.data.cells import is_blank, kind_of_cell, not_texts
from nlp_transfer.data.columns import find_column, require_columns
from nlp_transfer.data.formats.read import open_table
from nlp_transfer.data.formats.registry import ReadOptions, Window
from nlp_transfer.data.formats.windows import as_tables, column, columns_of, raw_column
from nlp_transfer.data.near_duplicates import (
    BETWEEN,
    SHINGLE,
    are_alike,
    min_hashes,
    normalised,
    pairs_of,
)
from nlp_transfer.errors import ExitCode, UserError


@dataclass(frozen=True)
class PoolFile:
    """A table of texts without labels, and which columns it has."""

    path: Path
    text: str
    text_pair: str | None = None
    label_columns: tuple[str, ...] = ()
    """Where there are labels, their rows are left out."""
    options: ReadOptions = field(default_factory=lambda: ReadOptions(keys="--"))


@dataclass(frozen=True)
class Rows:
    """One window of a pool."""

    window: Window
    first: int  # the number of its first row in the file, from 0
    texts: list[str]
    pairs: list[str] | None
    labelled: list[bool]


@dataclass(frozen=True)
class Scan:
    """Which rows of a pool can be chosen."""

    rows: int
    """All rows."""
    kept: np.ndarray
    """int64 [kept], their numbers in the file, from 0."""
    blank: int
    labelled: int
    alike: int
    """Rows that are nearly the same as a labelled row or as one before them."""
    digest: str
    """SHA-256 of all texts."""


def read_pool(pool: PoolFile, one_shape: bool = False) -> Iterator[Rows]:
    """The windows of a pool, in order.

    Args:
        one_shape: JSON lines as tables, too.

    Raises:
        UserError: where a column is missing, or a text is none.
    """
    first = 0
    with open_table(pool.path, pool.options) as (windows, _):
        for window in as_tables(windows) if one_shape else windows:
            if not len(window):
                continue
            names = columns_of(window)
            required = (("--text", pool.text), ("--text-pair", pool.text_pair))
            require_columns(names, required, str(pool.path), _reader(window))
            texts = _texts(column(window, pool.text), pool, first)
            pairs = None
            if pool.text_pair is not None:
                pairs = _texts(column(window, pool.text_pair), pool, first)
            there = [name for name in pool.label_columns if find_column(names, name)]
            labelled = [False] * len(texts)
            for name in there:
                cells = column(window, name)
                labelled = [a or not is_blank(b) for a, b in zip(labelled, cells, strict=True)]
            yield Rows(window, first, texts, pairs, labelled)
            first += len(texts)


def _reader(window: Window) -> Any:
    return lambda name: raw_column(window, name)


def _texts(cells: list[Any], pool: PoolFile, before: int) -> list[str]:
    wrong = not_texts(cells)
    if wrong:
        cell = cells[wrong[0]]
        raise UserError(
            ExitCode.DATA,
            f"{pool.path}, row {before + wrong[0] + 1:,}: a text is expected, found "
            f"{kind_of_cell(cell)}: {str(cell)[:60]}. Name another column with --text, or "
            "write the cells as texts.",
        )
    return [cell or "" for cell in cells]


def scan_pool(pool: PoolFile, labelled: Sequence[str]) -> Scan:
    """Read a pool once: which of its rows have a text, no label, and nothing alike before them.

    Texts go to a temporary file, so that memory holds a few numbers for each.

    Args:
        labelled: what `keys_of` makes of the labelled rows.
    """
    digest, rows, counts = hashlib.sha256(), 0, {"blank": 0, "labelled": 0}
    with _stored_texts() as keys:
        alike = _Alike(keys)
        alike.add(labelled, [-1] * len(labelled))
        for part in read_pool(pool):
            texts = [*part.texts, *(part.pairs or ())]
            digest.update("\0".join(texts).encode("utf-8", "surrogatepass"))
            blank = [is_blank(text) for text in part.texts]
            done = [label and not b for label, b in zip(part.labelled, blank, strict=True)]
            counts["blank"] += sum(blank)
            counts["labelled"] += sum(done)
            free = [i for i in range(len(blank)) if not blank[i] and not done[i]]
            alike.add(_keys(part, free), [part.first + i for i in free])
            rows += len(part.texts)
        kept = alike.unlike()
    left = rows - sum(counts.values()) - len(kept)
    return Scan(rows, kept, **counts, alike=left, digest=digest.hexdigest())


def _keys(part: Rows, rows: list[int]) -> list[str]:
    firsts = normalised([part.texts[i] for i in rows])
    if part.pairs is None:
        return firsts
    seconds = normalised([part.pairs[i] for i in rows])
    return [f"{one}{BETWEEN}{two}" for one, two in zip(firsts, seconds, strict=True)]


class _Alike:
    """Finds rows that are nearly the same as one before them; memory holds their hashes alone."""

    def __init__(self, keys: _StoredTexts) -> None:
        self.keys = keys
        self.digests: set[bytes] = set()
        self.numbers: list[int] = []  # in the file; -1: a labelled row
        self.long: list[int] = []  # those of the keys that have hashes
        self.hashes: list[np.ndarray] = []

    def add(self, keys: Sequence[str], numbers: Sequence[int]) -> None:
        """More rows; those that are the same as one before are left out at once."""
        long: list[str] = []
        for key, number in zip(keys, numbers, strict=True):
            digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=12).digest()
            if digest in self.digests:
                continue
            self.digests.add(digest)
            if len(key) >= SHINGLE:
                self.long.append(len(self.keys))
                long.append(key)
            self.keys.append(key)
            self.numbers.append(number)
        if long:
            self.hashes.append(min_hashes(long))

    def unlike(self) -> np.ndarray:
        """The numbers of the rows that are left, int64, in order."""
        numbers = np.array(self.numbers, dtype=np.int64)
        dropped = np.zeros(len(numbers), dtype=bool)
        if self.hashes:
            pairs = np.sort(np.array(self.long)[pairs_of(np.concatenate(self.hashes))], axis=1)
            for one, other in pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))].tolist():
                if dropped[one] or dropped[other] or numbers[other] < 0:
                    continue
                dropped[other] = are_alike(self.keys[one], self.keys[other])
        return numbers[~dropped & (numbers >= 0)]


class _StoredTexts:
    """Texts in a file, which are read one by one."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.ends = [0]

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, row: int) -> str:
        self.file.seek(self.ends[row])
        return self.file.read(self.ends[row + 1] - self.ends[row]).decode("utf-8", "surrogatepass")

    def append(self, text: str) -> None:
        """One more, at the end."""
        content = text.encode("utf-8", "surrogatepass")
        self.file.seek(self.ends[-1])
        self.file.write(content)
        self.ends.append(self.ends[-1] + len(content))


@contextmanager
def _stored_texts() -> Iterator[_StoredTexts]:
    with tempfile.TemporaryFile() as file:
        yield _StoredTexts(file)
