"""The embedded reviews: enough of them, balanced, no two alike, and not to be told by words."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from importlib import resources

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.corpus import load_corpus

SMALLEST = {"train": 400, "validation": 100, "test": 100}
# The share of their different words that two reviews may have in common at most.
ALIKE = 0.4
Reviews = dict[str, list[dict[str, str]]]


@pytest.fixture(scope="module")
def reviews() -> Reviews:
    """Every split as the package ships it."""
    splits = {}
    for split in SMALLEST:
        path = resources.files("nlp_transfer.reviews") / f"{split}.csv"
        splits[split] = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    return splits


@pytest.fixture(scope="module")
def texts(reviews: Reviews) -> list[str]:
    return [row["text"] for rows in reviews.values() for row in rows]


def words(text: str) -> list[str]:
    return re.findall(r"\w+(?:['’]\w+)*", text.lower())


def repeated(texts: list[str], length: int) -> dict[str, list[str]]:
    """Runs of so many words that two texts share, with the openings of those texts."""
    places: dict[str, list[str]] = {}
    for text in texts:
        tokens = words(text)
        runs = {" ".join(tokens[i : i + length]) for i in range(len(tokens) - length + 1)}
        for run in runs:
            places.setdefault(run, []).append(text[:40])
    return {run: where for run, where in places.items() if len(where) > 1}


def test_the_splits_are_large_enough_and_half_positive_half_negative(reviews: Reviews) -> None:
    assert sum(len(rows) for rows in reviews.values()) >= 600
    for split, smallest in SMALLEST.items():
        rows = reviews[split]
        assert len(rows) >= smallest
        half = len(rows) / 2
        assert Counter(row["label"] for row in rows) == {"positive": half, "negative": half}


def test_the_dataset_that_ships_is_the_corpus_that_loads(reviews: Reviews) -> None:
    splits = {split: split for split in SMALLEST}
    corpus = load_corpus(DatasetConfig(name="embedded:reviews", **splits), seed=0)
    assert corpus.labels == ("negative", "positive")
    assert corpus.notes == ()
    for split, rows in reviews.items():
        assert list(corpus.splits[split]["text"]) == [row["text"] for row in rows]
        names = [corpus.labels[i] for i in corpus.splits[split]["label"]]
        assert names == [row["label"] for row in rows]


def test_there_are_many_domains_and_none_gives_the_label_away(reviews: Reviews) -> None:
    assert len({row["domain"] for row in reviews["train"]}) >= 8
    for split, rows in reviews.items():
        counts = Counter((row["domain"], row["label"]) for row in rows)
        domains = {domain for domain, _ in counts}
        assert domains == {row["domain"] for row in reviews["train"]}, split
        for domain in domains:
            good, bad = counts[domain, "positive"], counts[domain, "negative"]
            assert min(good, bad) >= (good + bad) / 4, (split, domain)


def test_every_review_has_10_to_60_words(texts: list[str]) -> None:
    wrong = [text for text in texts if not 10 <= len(text.split()) <= 60]
    assert wrong == []


def test_no_review_is_there_twice(texts: list[str]) -> None:
    written = Counter(" ".join(words(text)) for text in texts)
    assert [text for text, count in written.items() if count > 1] == []


def test_no_two_reviews_share_most_of_their_words(texts: list[str]) -> None:
    table = CountVectorizer(binary=True, tokenizer=words, token_pattern=None).fit_transform(texts)
    shared = (table @ table.T).toarray().astype(float)
    sizes = shared.diagonal()
    jaccard = shared / (sizes[:, None] + sizes[None, :] - shared)
    alike = np.argwhere(np.triu(jaccard, k=1) > ALIKE)
    assert [(texts[i], texts[j]) for i, j in alike] == []


def test_no_two_reviews_open_alike(texts: list[str]) -> None:
    openings = Counter(" ".join(words(text)[:3]) for text in texts)
    assert {opening: n for opening, n in openings.items() if n > 1} == {}


def test_no_six_words_in_a_row_are_in_two_reviews(texts: list[str]) -> None:
    assert repeated(texts, 6) == {}


def test_single_words_tell_some_labels_but_not_most(reviews: Reviews) -> None:
    train, test = (
        ([row["text"] for row in reviews[split]], [row["label"] for row in reviews[split]])
        for split in ("train", "test")
    )
    bag = CountVectorizer()
    model = LogisticRegression(max_iter=1000).fit(bag.fit_transform(train[0]), train[1])
    assert 0.55 < model.score(bag.transform(test[0]), test[1]) < 0.80
