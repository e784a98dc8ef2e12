"""Finds texts that are the same but for case, spaces and punctuation, and texts that nearly are."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b

import numpy as np
from datasets import Dataset

from nlp_transfer.data.columns import AT_ONCE

BETWEEN = "\x1f"  # the two texts of a pair; it counts as a space, so no text keeps one
SHINGLE = 5  # characters
ALIKE = 0.8  # the share of their shingles that two near duplicates have in common
# Two texts with this share in common are in one bucket of some band with a probability of 99.8%.
BANDS, ROWS = 12, 4
# The share of equal hashes estimates that of common shingles to within 0.06 (one deviation).
MAYBE_ALIKE = ALIKE - 0.2
CHARACTERS = 1 << 21  # hashed at once


def keys_of(rows: Dataset) -> list[str]:
    """Of every row what is left of its text, or of both: equal for rows that say the same."""
    return [key for keys in windows_of_keys(rows) for key in keys]


def windows_of_keys(rows: Dataset, wanted: np.ndarray | None = None) -> Iterator[list[str]]:
    """The same for some rows at once.

    Args:
        wanted: int, ascending: those rows alone; None: all.
    """
    names = [name for name in ("text", "text_pair") if name in rows.column_names]
    for start in range(0, len(rows), AT_ONCE):
        texts = [rows[name][start : start + AT_ONCE] for name in names]
        if wanted is not None:
            low, high = np.searchsorted(wanted, [start, start + AT_ONCE])
            texts = [[cells[i] for i in wanted[low:high] - start] for cells in texts]
        yield [BETWEEN.join(parts) for parts in zip(*map(normalised, texts), strict=True)]


def digests_of(keys: Iterable[str]) -> np.ndarray:
    """Of each key, uint64.

    Among ten million others, two have the same one with a probability of three in a million.
    """
    encoded = (key.encode("utf-8", "surrogatepass") for key in keys)
    digests = b"".join(blake2b(key, digest_size=8).digest() for key in encoded)
    return np.frombuffer(digests, dtype=np.uint64)


def normalised(texts: Sequence[str]) -> list[str]:
    """Without case, punctuation and repeated spaces; a text of punctuation alone keeps it."""
    spaces = _Spaces()
    bare_texts = []
    for text in texts:
        text = unicodedata.normalize("NFC", text)
        bare = " ".join(text.casefold().translate(spaces).split())
        bare_texts.append(bare or " ".join(text.split()))
    return bare_texts


def near_pairs(keys: Sequence[str], among: np.ndarray | None = None) -> np.ndarray:
    """Pairs of different keys that may be near duplicates, the most alike first: int64 [pairs, 2].

    MinHash over character shingles, in bands (Broder 1997; Leskovec et al., Mining of Massive
    Datasets, 3.4). Of a bucket with many texts each is paired with the first and with its
    neighbour, not with all: templates would give millions.

    Args:
        among: the places of those keys that are compared; None: all.
    """
    places = range(len(keys)) if among is None else among.tolist()
    long_enough = np.array([i for i in places if len(keys[i]) >= SHINGLE], dtype=np.int64)
    return long_enough[pairs_of(min_hashes([keys[i] for i in long_enough]))]


def pairs_of(hashes: np.ndarray) -> np.ndarray:
    """As `near_pairs`, of texts whose hashes are known."""
    if len(hashes) < 2:
        return np.empty((0, 2), dtype=np.int64)
    pairs = np.unique(np.concatenate(list(_in_one_bucket(hashes))), axis=0)
    agreement = np.concatenate(
        [
            (hashes[some[:, 0]] == hashes[some[:, 1]]).mean(axis=1)
            for some in np.array_split(pairs, len(pairs) // 100_000 + 1)
        ]
    )
    order = np.argsort(-agreement, kind="stable")
    return pairs[order[agreement[order] >= MAYBE_ALIKE]]


def near_partners(keys: Sequence[str], pairs: np.ndarray) -> dict[int, int]:
    """For every key with a near duplicate among the pairs, one of those.

    Each is verified; what has one already is not compared again.
    """
    partners: dict[int, int] = {}
    for one, other in pairs.tolist():
        if (one not in partners or other not in partners) and are_alike(keys[one], keys[other]):
            partners.setdefault(one, other)
            partners.setdefault(other, one)
    return partners


def are_alike(one: str, other: str) -> bool:
    """Whether texts (of pairs both) have `ALIKE` of their shingles in common, by Jaccard."""
    firsts, seconds = one.split(BETWEEN), other.split(BETWEEN)
    return all(a == b or jaccard(a, b) >= ALIKE for a, b in zip(firsts, seconds, strict=True))


def jaccard(one: str, other: str) -> float:
    """The share of all their shingles that two texts have in common."""
    first, second = _shingles(one), _shingles(other)
    if not first or not second:
        return 0.0
    common = len(first & second)
    return common / (len(first) + len(second) - common)


def _shingles(text: str) -> set[str]:
    return {text[i : i + SHINGLE] for i in range(len(text) - SHINGLE + 1)}


class _Spaces(dict[int, int | str]):
    """For `str.translate`: a space for punctuation; each character is looked up once."""

    def __missing__(self, code: int) -> int | str:
        is_punctuation = unicodedata.category(chr(code)).startswith("P")
        self[code] = " " if is_punctuation else code
        return self[code]


def min_hashes(texts: list[str]) -> np.ndarray:
    """Of every text, the least of each of so many hashes of its shingles: uint32 [texts, n].

    Args:
        texts: each of at least `SHINGLE` characters.
    """
    generator = np.random.default_rng(0)
    salts, factors = generator.integers(0, 1 << 32, (2, BANDS * ROWS), dtype=np.uint32)
    factors |= np.uint32(1)
    hashes = np.empty((len(texts), BANDS * ROWS), dtype=np.uint32)
    for part in _parts([len(text) for text in texts]):
        shingles, starts = _hashed_shingles(texts[part])
        for i, (salt, factor) in enumerate(zip(salts, factors, strict=True)):
            hashes[part, i] = np.minimum.reduceat((shingles ^ salt) * factor, starts)
    return hashes


def _parts(lengths: list[int]) -> Iterator[slice]:
    """Texts one after another, of so many characters together."""
    start, room = 0, CHARACTERS
    for i, length in enumerate(lengths):
        if length > room and i > start:
            yield slice(start, i)
            start, room = i, CHARACTERS
        room -= length
    if lengths:
        yield slice(start, len(lengths))


def _hashed_shingles(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """A hash of every shingle, uint32, and where those of each text begin."""
    flat = "".join(texts).encode("utf-32-le", "surrogatepass")
    codes = np.frombuffer(flat, dtype=np.uint32).astype(np.uint64)
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    owners = np.repeat(np.arange(len(texts)), lengths)
    windows = len(codes) - SHINGLE + 1
    hashed = np.zeros(windows, dtype=np.uint64)
    for i in range(SHINGLE):
        hashed = hashed * np.uint64(0x100000001B3) + codes[i : i + windows]
    hashed = hashed[owners[:windows] == owners[SHINGLE - 1 :]]
    hashed = (hashed ^ (hashed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    starts = np.concatenate([[0], np.cumsum(lengths - SHINGLE + 1)[:-1]])
    return (hashed >> np.uint64(32)).astype(np.uint32), starts


def _in_one_bucket(hashes: np.ndarray) -> Iterator[np.ndarray]:
    """Pairs of rows, the lower first, whose hashes agree in a whole band."""
    for band in np.split(hashes.astype(np.uint64), BANDS, axis=1):
        key = band[:, 0]
        for column in band.T[1:]:
            key = (key ^ (key >> np.uint64(31))) * np.uint64(0x9E3779B97F4A7C15) + column
        order = np.argsort(key, kind="stable")
        begins = np.concatenate([[True], key[order][1:] != key[order][:-1]])
        first = np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))
        later = np.flatnonzero(~begins)
        yield np.stack([order[later - 1], order[later]], axis=1)
        yield np.stack([order[first[later]], order[later]], axis=1)
