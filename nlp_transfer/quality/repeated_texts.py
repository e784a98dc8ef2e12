"""Finds texts that occur again: in train and a held-out split, in one split, with other labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from os.path import commonprefix

import numpy as np

from nlp_transfer.data.corpus import Corpus, answers_of
from nlp_transfer.data.near_duplicates import digests_of, near_partners, windows_of_keys
from nlp_transfer.data.sources import SPLITS
from nlp_transfer.quality.findings import (
    EXAMPLE_LENGTH,
    EXAMPLES,
    MOST_ROWS,
    Finding,
    Level,
    count_of_texts,
    shortened_text,
    texts_at,
)
from nlp_transfer.utils.text import percent


@dataclass(frozen=True)
class Keys:
    """Which texts are the same: one number for each, in every split."""

    of: dict[str, np.ndarray]  # by split: int64 [rows], indices into `texts`
    texts: list[str]  # what is left of those that are compared; of the others nothing
    compared: np.ndarray | None = None  # int64, ascending: where near duplicates are sought

    def has(self, split: str) -> np.ndarray:
        """Whether a split has each of the texts."""
        present = np.zeros(len(self.texts), dtype=bool)
        present[self.of[split]] = True
        return present


def find_keys(corpus: Corpus, most: int) -> Keys:
    """Give every text its number; those of train come first.

    Args:
        most: texts that are compared with one another for near duplicates; those of validation and
            test come first, the others are drawn.
    """
    splits = {split: corpus.splits[split] for split in SPLITS if split in corpus.splits}
    digests = [digests_of(chain.from_iterable(windows_of_keys(rows))) for rows in splits.values()]
    _, first, numbers = np.unique(np.concatenate(digests), return_index=True, return_inverse=True)
    order = np.argsort(first)
    number_of = np.empty_like(order)
    number_of[order] = np.arange(len(order))
    ends = np.cumsum([len(part) for part in digests])
    of_split = dict(zip(splits, np.split(number_of[numbers], ends[:-1]), strict=True))
    compared = _drawn(of_split, len(first), most)
    places = first[order] if compared is None else first[order][compared]
    texts: list[str] = []
    for rows, end in zip(splits.values(), ends, strict=True):
        here = places[(places >= end - len(rows)) & (places < end)] - (end - len(rows))
        texts += [key for keys in windows_of_keys(rows, here) for key in keys]
    if compared is not None:
        everywhere = [""] * len(first)
        for place, text in zip(compared.tolist(), texts, strict=True):
            everywhere[place] = text
        texts = everywhere
    return Keys(of_split, texts, compared)


def _drawn(of_split: dict[str, np.ndarray], count: int, most: int) -> np.ndarray | None:
    """The texts that are compared, int64, ascending; None: all of them."""
    if count <= most:
        return None
    held_out = np.zeros(count, dtype=bool)
    for split, numbers in of_split.items():
        if split != "train":
            held_out[numbers] = True
    chance = np.random.default_rng(0).permutation(count)
    return np.sort(np.lexsort((chance, ~held_out))[:most])


def leaks(corpus: Corpus, keys: Keys, pairs: np.ndarray) -> Iterator[Finding]:
    """Rows of validation and test that train has, too."""
    train, clean = keys.has("train"), True
    for split in keys.of:
        if split == "train":
            continue
        mine, here = keys.of[split], keys.has(split)
        leaked = train[mine]
        rows = f"of the {len(mine):,} rows of {split}"
        if leaked.any():
            clean = False
            counted = f"{leaked.sum():,} {rows} ({percent(leaked.mean())}) are in train, too"
            yield _repeats(
                corpus,
                (split, np.flatnonzero(leaked)),
                ("train", _first_rows(keys, "train")[mine[leaked]]),
                Finding(
                    Level.problem,
                    "leak",
                    f"{counted}: figures of these rows measure memory. "
                    "dataset.on_leak=drop leaves them out of train.",
                    cautions={split: f"{counted}: these figures measure memory."},
                ),
            )
        across = (train[pairs] & here[pairs][:, ::-1]).any(axis=1)
        partners = near_partners(keys.texts, pairs[across])
        nearly = np.array([i for i, k in enumerate(mine) if k in partners and not train[k]], int)
        if len(nearly):
            clean = False
            others = _first_rows(keys, "train")[[partners[k] for k in mine[nearly]]]
            sentence = f"{len(nearly):,} {rows} are nearly the same as a row of train."
            finding = Finding(Level.warning, "near leak", sentence)
            yield _repeats(corpus, (split, nearly), ("train", others), finding)
    names = " or ".join(split for split in keys.of if split != "train")
    if clean and names:
        yield Finding(Level.good, "leak", f"No text of {names} is in train, too, or nearly so.")


def duplicates(corpus: Corpus, keys: Keys, pairs: np.ndarray) -> Iterator[Finding]:
    """Rows that repeat another of their own split."""
    clean = True
    for split, mine in keys.of.items():
        first = _first_rows(keys, split)[mine]
        again = np.flatnonzero(first != np.arange(len(mine)))
        rows = f"of the {len(mine):,} rows of {split}"
        if len(again):
            clean = False
            share = percent(len(again) / len(mine))
            sentence = f"{len(again):,} {rows} ({share}) repeat an earlier one."
            finding = Finding(Level.warning, "duplicates", sentence)
            yield _repeats(corpus, (split, again), (split, first[again]), finding)
        partners = near_partners(keys.texts, pairs[keys.has(split)[pairs].all(axis=1)])
        nearly = np.array([i for i, k in enumerate(mine) if k in partners], dtype=int)
        if len(nearly):
            clean = False
            others = _first_rows(keys, split)[[partners[k] for k in mine[nearly]]]
            share = percent(len(nearly) / len(mine))
            sentence = f"{len(nearly):,} {rows} ({share}) are nearly the same as another."
            finding = Finding(Level.warning, "near duplicates", sentence)
            yield _repeats(corpus, (split, nearly), (split, others), finding)
    if clean:
        yield Finding(Level.good, "duplicates", "No row repeats another of its split.")


def contradictions(corpus: Corpus, keys: Keys) -> Iterator[Finding]:
    """The same text with different answers, in any splits."""
    ids = np.concatenate(list(keys.of.values()))
    answers = [answer for split in keys.of for answer in answers_of(corpus, split)]
    references = np.concatenate([corpus.references(split) for split in keys.of])
    wrong, what = corpus.problem.contradictory(references, ids, len(keys.texts))
    rows = np.flatnonzero(wrong[ids])
    if not len(rows):
        yield Finding(Level.good, "contradictions", f"No text occurs with different {what}.")
        return
    sentence = (
        f"In {len(rows):,} rows the same text has different {what} "
        f"({count_of_texts(wrong.sum())}): one of each is wrong, or the text does not decide."
    )
    rows = _sides_first(rows, ids, answers)[:MOST_ROWS]
    places, texts = [""] * len(rows), [""] * len(rows)
    start = 0
    for split, mine in keys.of.items():
        here = np.flatnonzero((rows >= start) & (rows < start + len(mine)))
        split_rows = rows[here] - start
        described = zip(
            here, corpus.places(split, split_rows), texts_at(corpus, split, split_rows), strict=True
        )
        for i, place, text in described:
            places[i], texts[i] = f"{place}: {answers[rows[i]]}", text
        start += len(mine)
    _, first, of_text = np.unique(ids[rows], return_index=True, return_inverse=True)
    shown = of_text[: int(np.searchsorted(of_text, EXAMPLES))]
    examples = [shortened_text(texts[first[text]]) for text in shown]
    yield Finding(Level.problem, "contradictions", sentence, places, examples)


def _sides_first(rows: np.ndarray, ids: np.ndarray, answers: Sequence[str]) -> np.ndarray:
    """Rows by their text; of each text the first row with each answer, then the others."""
    known: set[tuple[int, str]] = set()
    again = np.zeros(len(rows), dtype=bool)
    for place, row in enumerate(rows.tolist()):
        side = (int(ids[row]), answers[row])
        again[place] = side in known
        known.add(side)
    return rows[np.lexsort((again, ids[rows]))]


def _first_rows(keys: Keys, split: str) -> np.ndarray:
    """The first row of a split with each of the texts; of those it does not have, any."""
    rows = np.zeros(len(keys.texts), dtype=np.int64)
    mine = keys.of[split]
    rows[mine[::-1]] = np.arange(len(mine))[::-1]
    return rows


def _repeats(
    corpus: Corpus, these: tuple[str, np.ndarray], those: tuple[str, np.ndarray], finding: Finding
) -> Finding:
    """The finding with its rows, each beside the one that it repeats."""
    (split, rows), (other, firsts) = these, those
    rows, firsts = rows[:MOST_ROWS], firsts[:MOST_ROWS]
    places = zip(corpus.places(split, rows), corpus.places(other, firsts), strict=True)
    texts, others = (
        texts_at(corpus, split, rows[:EXAMPLES]),
        texts_at(corpus, other, firsts[:EXAMPLES]),
    )
    examples = [_beside(text, first) for text, first in zip(texts, others, strict=True)]
    return replace(finding, rows=[f"{one} = {first}" for one, first in places], examples=examples)


def _beside(one: str, other: str) -> str:
    """Two texts, from shortly before where they differ."""
    if one == other:
        return shortened_text(one)
    same = len(commonprefix([one, other]))
    start = max(same - EXAMPLE_LENGTH // 8, 0)
    before, half = "…" if start else "", EXAMPLE_LENGTH // 2 - 3
    return " = ".join(f"{before}{shortened_text(text[start:], half)}" for text in (one, other))
