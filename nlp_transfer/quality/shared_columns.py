"""Finds columns that repeat each other: the label inside the text, or one text twice in a pair."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from nlp_transfer.data.columns import each_cell
from nlp_transfer.data.corpus import Corpus
from nlp_transfer.quality.findings import Finding, Level, places_and_texts
from nlp_transfer.utils.text import percent

MOST = 0.9  # the share of rows from which on a column is taken to repeat another
SELDOM = 0.1  # and so seldom may a text hold the label of a row with another one
LOOKED_AT = 20_000  # rows of train


def shared_columns(corpus: Corpus) -> Iterator[Finding]:
    """Both findings about train."""
    yield from _labels_in_texts(corpus)
    yield from _same_pairs(corpus)


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
