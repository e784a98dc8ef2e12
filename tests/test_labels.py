"""Labels come back from a corpus as the data wrote them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.cells import is_blank
from nlp_transfer.data.corpus import Corpus, answers_of, load_corpus
from nlp_transfer.problems.single_label import SINGLE_LABEL

# Anything that a person can see.
NAMES = st.text(min_size=1, max_size=8).filter(lambda name: not is_blank(name))
FEW = st.lists(NAMES, min_size=2, max_size=5, unique=True)
quickly = settings(max_examples=40, deadline=None)


def corpus_of(cells: list[Any], problem: str, **settings: Any) -> Corpus:
    """Every split is the same file."""
    pq.write_table(pa.table({"text": ["a text"] * len(cells), "label": cells}), "rows.parquet")
    splits = dict.fromkeys(("train", "validation", "test"), str(Path("rows.parquet")))
    return load_corpus(DatasetConfig(**splits, problem=problem, **settings), 0)


@quickly
@given(FEW, st.data())
def test_one_label_a_text_comes_back_by_name(names: list[str], data: st.DataObject) -> None:
    cells = [*names, *data.draw(st.lists(st.sampled_from(names), max_size=10))]
    corpus = corpus_of(cells, "single_label")
    assert sorted(corpus.labels) == sorted(names)
    for split in corpus.splits:
        assert answers_of(corpus, split) == cells
    # The order is that of the names, whichever comes first in the file.
    assert corpus.labels == corpus_of(cells[::-1], "single_label").labels


@quickly
@given(st.lists(st.integers(-50, 50), min_size=2, max_size=19).filter(lambda x: len(set(x)) > 1))
def test_integers_are_labels_in_their_own_order(cells: list[int]) -> None:
    corpus = corpus_of(cells, "auto")
    assert corpus.problem is SINGLE_LABEL
    assert corpus.labels == tuple(str(label) for label in sorted(set(cells)))
    assert answers_of(corpus, "test") == [str(cell) for cell in cells]


@quickly
@given(FEW, st.data())
def test_several_labels_a_text_come_back_however_they_are_written(
    names: list[str], data: st.DataObject
) -> None:
    names = list(dict.fromkeys(name.replace("|", "/").strip() for name in names))
    some = st.lists(st.sampled_from(names), unique=True)
    cells = [[], names, *data.draw(st.lists(some, max_size=10))]
    for written in ({"cells": cells}, {"cells": ["|".join(c) for c in cells], "delimiter": "|"}):
        corpus = corpus_of(written.pop("cells"), "multi_label", **written)
        assert sorted(corpus.labels) == sorted(names)
        for split in corpus.splits:
            references = corpus.references(split)
            back = [{corpus.labels[i] for i in np.flatnonzero(row)} for row in references]
            assert back == [set(cell) for cell in cells]


@quickly
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2).filter(lambda x: len(set(x)) > 1))
def test_scores_come_back_to_the_last_digit(cells: list[float]) -> None:
    corpus = corpus_of(cells, "regression")
    assert corpus.references("validation").tolist() == cells
