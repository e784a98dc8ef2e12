"""Splits and folds that are cut from train: partitions, whole groups, sides that never change."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp_transfer import compose
from nlp_transfer.config.choices import Cut
from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.corpus import Corpus, load_corpus
from nlp_transfer.data.splitters import hashed, stratified_group_parts, stratified_parts
from nlp_transfer.errors import ExitCode, UserError

LABELS = st.lists(st.integers(0, 3), min_size=1, max_size=60).map(np.array)


def patients(rows: int, seed: int = 0) -> list[dict[str, Any]]:
    """Texts of patients who come more or less often; a fifth is urgent."""
    generator = np.random.default_rng(seed)
    who = np.sort(generator.zipf(1.6, rows).clip(max=9).cumsum() // 7)
    return [
        {
            "text": f"report {i} of {who[i]}",
            "label": "urgent" if generator.random() < 0.2 else "usual",
            "patient": f"P{who[i]}",
        }
        for i in range(rows)
    ]


def load(rows: Sequence[dict[str, Any]], seed: int = 42, **settings: Any) -> Corpus:
    """A corpus of one file, its splits cut from it."""
    file = Path("rows.csv")
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return load_corpus(DatasetConfig(train=str(file), **settings), seed)


def sides(corpus: Corpus, column: str = "row") -> dict[str, set[Any]]:
    """What is in each split."""
    return {split: set(rows[column]) for split, rows in corpus.splits.items()}


@given(LABELS, st.integers(2, 7), st.integers(0, 5))
def test_rows_are_dealt_evenly_and_so_is_every_label(
    labels: np.ndarray, parts: int, seed: int
) -> None:
    part = stratified_parts(labels, parts, seed)
    assert part.tolist() == stratified_parts(labels, parts, seed).tolist()
    for among in (labels == labels, *(labels == label for label in np.unique(labels))):
        sizes = np.bincount(part[among], minlength=parts)
        assert len(sizes) == parts
        assert np.ptp(sizes) <= 1


@given(LABELS, st.data())
def test_groups_are_dealt_whole_and_every_part_gets_one(
    labels: np.ndarray, data: st.DataObject
) -> None:
    kinds = data.draw(st.lists(st.integers(0, 8), min_size=len(labels), max_size=len(labels)))
    groups = np.unique(kinds, return_inverse=True)[1]
    parts = data.draw(st.integers(1, len(np.unique(groups))))
    shares = data.draw(st.lists(st.floats(0.05, 1), min_size=parts, max_size=parts))
    part = stratified_group_parts(groups, labels, np.array(shares) / sum(shares), 0)
    assert set(part) == set(range(parts))
    assert all(len(np.unique(part[groups == group])) == 1 for group in np.unique(groups))


def test_groups_of_many_sizes_are_dealt_close_to_the_shares() -> None:
    for seed in range(5):
        generator = np.random.default_rng(seed)
        groups = np.repeat(np.arange(300), generator.geometric(0.1, 300))
        # Of some groups nearly every row is urgent.
        labels = (generator.random(len(groups)) < generator.beta(0.3, 1.2, 300)[groups]).astype(int)
        for shares in ((0.9, 0.1), (0.2,) * 5):
            part = stratified_group_parts(groups, labels, shares, seed)
            for i, share in enumerate(shares):
                assert (part == i).mean() == pytest.approx(share, abs=0.02)
                assert labels[part == i].mean() == pytest.approx(labels.mean(), abs=0.03)


@given(st.lists(st.text(max_size=5), max_size=20), st.lists(st.text(max_size=5), max_size=20))
def test_a_hash_is_of_the_text_alone(some: list[str], more: list[str]) -> None:
    hashes = hashed([*some, *more], "test")
    assert hashes[: len(some)].tolist() == hashed(some, "test").tolist()
    assert ((hashes >= 0) & (hashes < 1)).all()


def test_hashes_stay_what_they_are_from_version_to_version() -> None:
    expected = [0.2932572208519206, 0.4180034036494586, 0.8928555533073537]
    np.testing.assert_allclose(hashed(["a", "Ünïcode", "\ud800"], "test"), expected, atol=1e-12)
    spread = hashed([str(i) for i in range(10_000)], "test")
    assert np.histogram(spread, 10, (0, 1))[0] == pytest.approx(1000, abs=120)
    assert np.corrcoef(spread, hashed([str(i) for i in range(10_000)], "fold"))[0, 1] < 0.05


@pytest.mark.parametrize("cut", Cut)
@pytest.mark.parametrize("group", [None, "patient"])
@pytest.mark.parametrize("folds", [None, 4])
def test_splits_part_the_file_and_groups_stay_whole(
    cut: Cut, group: str | None, folds: int | None
) -> None:
    rows = patients(240)
    tested: list[int] = []
    for fold in range(folds or 1):
        corpus = load(rows, cut=cut, group=group, folds=folds, fold=fold)
        by_split = sides(corpus)
        assert sorted(by_split) == ["test", "train", "validation"]
        assert sorted(row for side in by_split.values() for row in side) == list(range(1, 241))
        if group is not None:
            groups = sides(corpus, "group")
            assert sum(map(len, groups.values())) == len({row["patient"] for row in rows})
        tested += by_split["test"]
        share = len(by_split["validation"]) / 240
        assert share == pytest.approx(0.1, abs=0.01 if cut is Cut.stratified else 0.08)
    if folds is not None:
        assert sorted(tested) == list(range(1, 241))


@pytest.mark.parametrize("group", [None, "patient"])
def test_by_hash_no_row_changes_side_when_the_data_grow(group: str | None) -> None:
    rows = patients(300)
    for folds in (None, 3):
        before = sides(load(rows[:200], cut=Cut.hash, group=group, folds=folds), "text")
        after = sides(load(rows, cut=Cut.hash, group=group, folds=folds, seed=7), "text")
        for split, texts in before.items():
            assert texts == after[split] & {row["text"] for row in rows[:200]}
        drawn = [sides(load(rows[:n], folds=folds, group=group), "text") for n in (200, 300)]
        assert drawn[0]["test"] - drawn[1]["test"]


def test_equal_texts_have_one_side_by_hash() -> None:
    rows = [{"text": f"text {i % 60}", "label": "ab"[i % 2]} for i in range(240)]
    texts = sides(load(rows, cut=Cut.hash), "text")
    assert sum(map(len, texts.values())) == 60


def test_a_label_that_is_cut_off_whole_is_said() -> None:
    rows = [{"text": f"text {i}", "label": "ab"[i % 2], "who": str(i // 10)} for i in range(100)]
    rows += [{"text": f"rare {i}", "label": "c", "who": "rare"} for i in range(10)]
    notes_by_fold = [load(rows, group="who", folds=5, fold=fold).notes for fold in range(5)]
    assert sum("train has no row labelled c" in " ".join(notes) for notes in notes_by_fold) >= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": "patient", "folds": 9}, "9 groups, and dataset.group has 4.*take fewer folds"),
        ({"group": "ward"}, "2 groups, and dataset.group has 1.*or give dataset.test a file"),
        ({"folds": 50}, "fill only 40 of them"),
        ({"folds": 40, "cut": Cut.hash}, "Take fewer folds"),
        ({"group": "doctor"}, "dataset.group='doctor' is not a column"),
        ({"group": "nurse"}, "have an empty group"),
        ({"folds": 2, "validation_fraction": 0.6}, "no validation split can be cut"),
    ],
)
def test_cuts_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    rows = [
        {"text": f"t{i}", "label": "ab"[i % 2], "patient": i % 4, "ward": 1, "nurse": "x" * (i % 9)}
        for i in range(40)
    ]
    with pytest.raises(UserError, match=message) as refusal:
        load(rows, **options)
    assert refusal.value.code is ExitCode.DATA


def test_groups_on_two_sides_of_given_files_are_refused() -> None:
    rows = patients(60)
    load(rows[:40])
    Path("rows.csv").rename("validation.csv")
    with pytest.raises(UserError, match="are in train and in validation"):
        load(rows[30:], validation="validation.csv", group="patient")


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (("dataset.folds=1",), "at least 2"),
        (("dataset.folds=5", "dataset.fold=5"), "must be 0 to 4"),
        (("dataset.folds=5", "dataset.fold=-1"), "must be 0 to 4"),
        (("dataset.fold=2",), "needs dataset.folds"),
        (("dataset.folds=5", "dataset.test=test.csv"), "dataset.test=null"),
        (("dataset.cut=hash", "dataset.validation=v.csv"), "nothing to cut"),
        (("dataset.cut=random",), "stratified"),
    ],
)
def test_impossible_folds_are_refused(typed: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        compose("+task=classify", "dataset.train=rows.csv", *typed)
    assert caught.value.code is ExitCode.CONFIG
