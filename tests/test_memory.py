"""Tables that are given from Python are read as files are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from conftest import make_rows, write_csv
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from nlp_transfer import UserError, compose
from nlp_transfer.config.schema import Config
from nlp_transfer.data.corpus import Corpus, load_run_corpus
from nlp_transfer.data.memory import tables_by_split, with_tables
from nlp_transfer.errors import ExitCode

ROWS = make_rows(60)
TEXTS, LABELS = (list(cells) for cells in zip(*ROWS, strict=True))
COLUMNS = {"text": TEXTS, "label": LABELS}


def config(*overrides: str) -> Config:
    return compose("+task=classify", "evaluation.folds=0", *overrides)


def read(data: Any, *overrides: str) -> Corpus:
    tables = tables_by_split(data)
    return load_run_corpus(with_tables(config(*overrides), tables), tables)


def with_distractions() -> pd.DataFrame:
    """Rows that are left over of a larger frame, with a column that no table could hold."""
    frame = pd.DataFrame(
        {"text": ["", *TEXTS], "label": ["none", *LABELS], "anything": [[1], *("x" for _ in ROWS)]},
        index=pd.date_range("2024", periods=61),
    )
    frame["label"] = frame["label"].astype("category")
    return frame[frame["label"] != "none"]


TABLES: dict[str, Callable[[], Any]] = {
    "pandas": lambda: pd.DataFrame(COLUMNS),
    "pandas, filtered, with categories": with_distractions,
    "polars": lambda: pl.DataFrame(COLUMNS),
    "polars with categories": lambda: pl.DataFrame(COLUMNS).cast({"label": pl.Categorical}),
    "arrow": lambda: pa.table(COLUMNS),
    "datasets": lambda: Dataset.from_dict(COLUMNS),
    "datasets, filtered": lambda: Dataset.from_dict(
        {"text": ["", *TEXTS], "label": ["none", *LABELS]}
    ).filter(lambda row: row["label"] != "none"),
    "a dict of columns": lambda: COLUMNS,
    "a dict of arrays": lambda: {name: np.array(cells) for name, cells in COLUMNS.items()},
    "a list of dicts": lambda: [{"text": text, "label": label} for text, label in ROWS],
    "a generator of dicts": lambda: ({"text": text, "label": label} for text, label in ROWS),
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_the_same_rows_are_the_same_corpus_in_a_file_and_in_any_table(
    table: Callable[[], Any], tmp_path: Path
) -> None:
    file = write_csv(tmp_path / "rows.csv", ROWS)
    corpus = read({"train": table()})
    assert corpus.fingerprint == load_run_corpus(config(f"dataset.train={file}")).fingerprint
    origins = sorted(origin["row"] for split in corpus.splits for origin in corpus.origins(split))
    assert origins == list(range(1, 61))


def test_a_table_alone_is_train_and_splits_keep_their_names() -> None:
    alone = read(Dataset.from_dict(COLUMNS))
    assert alone.fingerprint == read({"train": COLUMNS}).fingerprint
    splits = DatasetDict(
        {
            "test": Dataset.from_list([{"text": "a lovely film", "label": "positive"}]),
            "train": Dataset.from_dict(COLUMNS),
        }
    )
    corpus = read(splits)
    assert {name: len(rows) for name, rows in corpus.splits.items()} == {
        "train": 54,
        "validation": 6,
        "test": 1,
    }
    assert corpus.origins("test") == [{"file": "data['test']", "row": 1}]


def test_class_labels_keep_their_names_and_their_order() -> None:
    kinds = Features({"text": Value("string"), "label": ClassLabel(names=["zeta", "alpha"])})
    rows = {"text": TEXTS, "label": [int(label == "positive") for label in LABELS]}
    assert read({"train": Dataset.from_dict(rows, kinds)}).labels == ("zeta", "alpha")


def test_labels_may_be_numbers_lists_or_scores() -> None:
    integers = pd.DataFrame({"text": TEXTS, "label": [int(x == "positive") for x in LABELS]})
    assert read(integers).labels == ("0", "1")
    assert read(integers.astype({"label": bool})).labels == ("False", "True")
    lists = pl.DataFrame({"text": TEXTS, "label": [[x, "any"] for x in LABELS]})
    assert read(lists).problem.name == "multi_label"
    scores = pa.table({"text": TEXTS, "label": np.linspace(0, 1, 60)})
    assert read(scores).problem.name == "regression"


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, ""])
def test_a_row_without_text_is_named_by_its_place(missing: Any) -> None:
    frame = pd.DataFrame({"text": [*TEXTS[:3], missing, *TEXTS[4:]], "label": LABELS})
    with pytest.raises(UserError, match=r"data\['train'\].*an empty text.*\n.*row 4") as caught:
        read(frame)
    assert caught.value.code is ExitCode.DATA
    left = read(frame, "dataset.on_empty=drop")
    assert sum(map(len, left.splits.values())) == 59


REFUSED: list[tuple[Any, str]] = [
    ({"dev": COLUMNS, "train": COLUMNS}, "data has 'dev'; expected.*train, validation and test"),
    ({"test": COLUMNS}, "data has no train"),
    ({"train": [("a text", "a label")]}, r"data\['train'\] is a list with tuple in it; expected"),
    ({"train": "train.csv"}, r"data\['train'\] is a str; expected a table"),
    ({"train": {"text": TEXTS, "label": ["x"]}}, "different lengths"),
    ({"train": {"text": TEXTS, "labels": LABELS}}, r"'label' is not a column.*'labels'"),
    (
        {"train": {"text": [1, "two"] * 30, "label": LABELS}},
        r"The column 'text' of data\['train'\] cannot be read",
    ),
    ({"train": Dataset.from_dict(COLUMNS).to_iterable_dataset()}, "expected all rows"),
]


@pytest.mark.parametrize(("data", "expected"), REFUSED, ids=[text for _, text in REFUSED])
def test_what_is_no_table_is_refused_and_says_what_was_expected(data: Any, expected: str) -> None:
    with pytest.raises(UserError, match=expected) as caught:
        read(data)
    assert caught.value.code is ExitCode.DATA


def test_data_is_given_or_named_but_not_both(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "rows.csv", ROWS)
    for named in (f"dataset.train={file}", f"dataset.test={file}"):
        with pytest.raises(UserError, match=f"names data too .*{named.partition('=')[0]}="):
            with_tables(config(named), {"train": COLUMNS})
    with pytest.raises(UserError, match="dataset.name='embedded:reviews'"):
        with_tables(compose("+task=sentiment"), {"train": COLUMNS})
    assert with_tables(config(), {"train": 0, "test": 0}).dataset.test == "test"
