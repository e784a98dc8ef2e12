"""Finds columns that repeat each other: labels inside texts, pairs of one text, swapped pairs."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from nlp_transfer.data.columns import each_cell
from nlp_transfer.data.corpus import Corpus, answers_of
from nlp_transfer.data.near_duplicates import BETWEEN, keys_of
from nlp_transfer.quality.findings import Finding, Level, places_and_texts
from nlp_transfer.utils.text import percent

MOST = 0.9  # the share of rows from which on a column is taken to repeat another
SELDOM = 0.1  # and so seldom may a text hold the label of a row with another one
LOOKED_AT = 20_000  # rows of train


def shared_columns(corpus: Corpus) -> Iterator[Finding]:
    """Findings about train, and about pairs that it has the other way round."""
    yield from _labels_in_texts(corpus)
    yield from _same_pairs(corpus)
    yield from _swapped_pairs(corpus)


def _labels_in_texts(corpus: Corpus) -> Iterator[Finding]:
    """That nearly every text holds the name of its label, and of no other: it learns to read it."""
    if not corpus.has_classes:
        return
    train = corpus.splits["train"].select(range(min(LOOKED_AT, len(corpus.splits["train"]))))
    labels = corpus.references("train")[: len(train)]
    words = [
        re.compile(rf"(?<![^\W_]){re.escape(label.strip())}(?![^\W_])", re.IGNORECASE)
        for label in corpus.labels
    ]
    texts = list(each_cell(train, "text"))
    rows_of_labels = zip(labels, texts, strict=True)
    own = np.array([words[label].search(text) is not None for label, text in rows_of_labels])
    if own.mean() < MOST:
        return
    # Half the rows on, in the order of their labels, most rows have another label.
    order = np.argsort(labels, kind="stable")
    others = np.roll(labels[order], len(labels) // 2)
    different = [(i, other) for i, other in zip(order, others, strict=True) if labels[i] != other]
    wrong = [words[other].search(texts[row]) is not None for row, other in different]
    if not different or np.mean(wrong) > SELDOM:
        return
    rows = np.flatnonzero(own)
    yield Finding(
        Level.warning,
        "labels in texts",
        f"{len(rows):,} of {len(texts):,} texts of train ({percent(own.mean())}) have the name of "
        "their label in them: the model learns to read it there. If texts without a label will "
        "not have it, remove it from the texts.",
        *places_and_texts(corpus, {"train": rows}),
    )


def _same_pairs(corpus: Corpus) -> Iterator[Finding]:
    """That both texts of most pairs are the same."""
    train = corpus.splits["train"]
    if "text_pair" not in train.column_names:
        return
    pairs = zip(each_cell(train, "text"), each_cell(train, "text_pair"), strict=True)
    rows = np.flatnonzero([first.strip() == second.strip() for first, second in pairs])
    if len(rows) < MOST * len(train):
        return
    yield Finding(
        Level.warning,
        "same texts",
        f"Both texts of {len(rows):,} of the {len(train):,} pairs of train are the same: check "
        "that dataset.text and dataset.text_pair name the right columns.",
        *places_and_texts(corpus, {"train": rows}),
    )


def _swapped_pairs(corpus: Corpus) -> Iterator[Finding]:
    """Pairs that train has with their texts swapped: the same pair, where order does not matter."""
    if "text_pair" not in corpus.splits["train"].column_names:
        return
    first_row: dict[int, int] = {}
    for row, key in enumerate(keys_of(corpus.splits["train"])):
        first_row.setdefault(hash(key), row)
    train = answers_of(corpus, "train")
    for split, data in corpus.splits.items():
        rows, others = [], 0
        for row, (key, answer) in enumerate(
            zip(keys_of(data), answers_of(corpus, split), strict=True)
        ):
            one, _, two = key.partition(BETWEEN)
            swapped = first_row.get(hash(f"{two}{BETWEEN}{one}"))
            if one == two or swapped is None or (split == "train" and swapped > row):
                continue
            rows.append(row)
            others += answer != train[swapped]
        if rows:
            differing = f", {others:,} of them with another answer" if others else ""
            memory = " and figures of these rows measure memory" if split != "train" else ""
            yield Finding(
                Level.warning,
                "swapped pairs",
                f"{len(rows):,} of the {len(data):,} rows of {split} are a pair of train with its "
                f"texts swapped{differing}. Where the order of the texts does not matter, they "
                f"repeat it{memory}.",
                *places_and_texts(corpus, {split: np.array(rows)}),
            )
