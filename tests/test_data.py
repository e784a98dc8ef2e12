"""Labelled texts: every kind of file, the label contract, the cut of missing splits, errors."""

from __future__ import annotations

import csv
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import make_rows, write_csv
from datasets import ClassLabel, Dataset, DatasetDict, List
from hypothesis import given, settings
from hypothesis import strategies as st

from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.cells import is_blank
from nlp_transfer.data.corpus import Corpus, answers_of, load_corpus, stratified_part
from nlp_transfer.data.sources import read_files
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.problems.multi_label import MULTI_LABEL
from nlp_transfer.problems.regression import REGRESSION
from nlp_transfer.problems.single_label import SINGLE_LABEL

Rows = list[tuple[Any, Any]]

# What a careless reader turns into nothing, into a number or into two rows.
AWKWARD: Rows = [
    ("NA", "bad"),
    ("null", "good"),
    ("None", "bad"),
    ("nan", "good"),
    ("007", "bad"),
    ("1.50", "good"),
    ("true", "bad"),
    ('she said "no", twice', "good"),
    ("first line\nsecond line", "bad"),
    ("tab\there", "good"),
    ("naïve — 日本 🙂", "bad"),
    ("  spaces around  ", "good"),
]


def write(path: Path, rows: Rows) -> Path:
    """Rows with the columns `text` and `label`, in the kind of file that the name says."""
    match path.suffix:
        case ".parquet":
            texts, labels = zip(*rows, strict=True)
            pq.write_table(pa.table({"text": list(texts), "label": list(labels)}), path)
        case ".jsonl" | ".json":
            lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        case ".tsv":
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file, delimiter="\t").writerows([("text", "label"), *rows])
        case _:
            write_csv(path, rows)
    return path


def write_classes(path: Path, rows: Rows, names: list[str]) -> Path:
    """As `datasets` writes a Parquet file whose labels are a `ClassLabel`."""
    feature = ClassLabel(names=names)
    # As on the Hub, -1 is a label that is kept secret: it is no name's number.
    numbers = [label if label == -1 else feature.str2int(label) for _, label in rows]
    table = Dataset.from_dict({"text": [text for text, _ in rows], "label": numbers})
    table.cast_column("label", feature).to_parquet(path)
    return path


def load(seed: int = 0, **keys: Any) -> Corpus:
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in keys.items()}
    return load_corpus(DatasetConfig(**plain), seed)


def failure(**keys: Any) -> str:
    """The message of the one error about the data that loading ends with."""
    with pytest.raises(UserError) as caught:
        load(**keys)
    assert caught.value.code is ExitCode.DATA
    return str(caught.value)


def rows_of(corpus: Corpus, split: str) -> list[tuple[str, str]]:
    """Texts with the names of their labels."""
    part = corpus.splits[split]
    return [
        (text, corpus.labels[label])
        for text, label in zip(part["text"], part["label"], strict=True)
    ]


def texts_of(corpus: Corpus, split: str) -> list[str]:
    return list(corpus.splits[split]["text"])


def labelled(labels: list[Any]) -> Rows:
    """One row for each label, every text another."""
    return [(f"text {i}", label) for i, label in enumerate(labels)]


# What a file may be -------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json", ".parquet"])
def test_every_kind_of_file_gives_the_same_corpus_text_by_text(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"rows{suffix}", AWKWARD)
    corpus = load(train=path, validation=path)
    as_parquet = write(tmp_path / "reference.parquet", AWKWARD)
    assert rows_of(corpus, "train") == AWKWARD
    assert corpus.labels == ("bad", "good")
    assert corpus.fingerprint == load(train=as_parquet, validation=as_parquet).fingerprint


def test_a_glob_reads_several_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    rows = make_rows(30)
    for name, part in (("c.csv", rows[20:]), ("a.csv", rows[:10]), ("b.csv", rows[10:20])):
        write(tmp_path / name, part)
    whole = write(tmp_path / "whole.jsonl", rows)
    corpus = load(train=tmp_path / "*.csv", validation=whole)
    assert rows_of(corpus, "train") == rows


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_line_ends_inside_texts_survive_in_a_file_of_several_megabytes(
    tmp_path: Path, suffix: str
) -> None:
    # Arrow reads a file in blocks of one megabyte, which may end inside a quoted text.
    rows = [(f"{i}\n" + "line\n" * 200 + "end", "ab"[i % 2]) for i in range(3000)]
    path = write(tmp_path / f"rows{suffix}", rows)
    assert path.stat().st_size > 2_500_000
    corpus = load(train=path, validation=write(tmp_path / "validation.csv", rows[:2]))
    assert rows_of(corpus, "train") == rows


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
@pytest.mark.parametrize("mark", ["byte order mark", "Windows line ends"])
def test_what_windows_adds_to_a_file_is_no_part_of_the_data(
    tmp_path: Path, suffix: str, mark: str
) -> None:
    rows = make_rows(10)
    path = write(tmp_path / f"rows{suffix}", rows)
    content = path.read_bytes().replace(b"\r\n", b"\n")
    if mark == "byte order mark":
        content = b"\xef\xbb\xbf" + content
    else:
        content = content.replace(b"\n", b"\r\n")
    path.write_bytes(content)
    corpus = load(train=path, validation=path)
    assert rows_of(corpus, "train") == rows
    assert corpus.labels == ("negative", "positive")


def test_the_columns_may_be_called_anything_and_others_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("stars,id,review\ngood,1,a\nbad,2,b\n", encoding="utf-8")
    corpus = load(train=path, validation=path, text="review", label="stars")
    assert rows_of(corpus, "train") == [("a", "good"), ("b", "bad")]
    assert corpus.splits["train"].column_names == ["text", "label", "source", "row"]


# The label contract -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "labels", "names"),
    [
        (".csv", ["b", "c", "a"], ("a", "b", "c")),
        (".csv", ["10", "2", "1"], ("1", "2", "10")),
        (".jsonl", [10, 2, 1], ("1", "2", "10")),
        (".parquet", [10, 2, 1], ("1", "2", "10")),
        (".csv", ["3", "-1", "0"], ("-1", "0", "3")),
        (".csv", ["10", "2", "x"], ("10", "2", "x")),
        (".jsonl", [True, False], ("False", "True")),
    ],
)
def test_labels_are_sorted_as_names_or_as_integers(
    tmp_path: Path, suffix: str, labels: list[Any], names: tuple[str, ...]
) -> None:
    path = write(tmp_path / f"rows{suffix}", labelled(labels))
    corpus = load(train=path, validation=path)
    assert corpus.labels == names
    assert rows_of(corpus, "train") == [(t, str(label)) for t, label in labelled(labels)]


def test_labels_that_are_the_same_integer_in_two_spellings_keep_one_order_in_every_process(
    tmp_path: Path,
) -> None:
    # The order of a set of strings is another in every process: it must not decide about ties.
    labels = [spelling for i in range(8) for spelling in (str(i), f"0{i}", f"00{i}")]
    path = write(tmp_path / "rows.csv", labelled(labels * 2))
    names = load(train=path, validation=path).labels
    assert names == tuple(sorted(labels, key=lambda label: (int(label), label)))


def test_the_order_of_a_class_label_is_kept_even_of_labels_without_rows(tmp_path: Path) -> None:
    rows = labelled(["sad", "happy", "sad"])
    path = write_classes(tmp_path / "rows.parquet", rows, ["sad", "calm", "happy"])
    corpus = load(train=path, validation=path)
    assert corpus.labels == ("sad", "calm", "happy")
    assert rows_of(corpus, "train") == rows


def test_a_class_label_in_another_order_in_validation_cannot_swap_the_labels(
    tmp_path: Path,
) -> None:
    rows = labelled(["bad", "good", "good", "bad"])
    train = write_classes(tmp_path / "train.parquet", rows, ["bad", "good"])
    other = write_classes(tmp_path / "other.parquet", rows, ["good", "bad"])
    try:
        corpus = load(train=train, validation=other)
    except UserError as error:
        assert error.code is ExitCode.DATA  # to refuse it is as good as to read it right
    else:
        assert rows_of(corpus, "validation") == rows


def test_a_label_has_the_same_id_in_splits_that_lack_some_labels(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", labelled(["a", "b", "c"]))
    validation = write(tmp_path / "validation.csv", labelled(["c", "b"]))
    test = write(tmp_path / "test.csv", labelled(["c", "c"]))
    corpus = load(train=train, validation=validation, test=test)
    assert corpus.labels == ("a", "b", "c")
    assert list(corpus.splits["validation"]["label"]) == [2, 1]
    assert list(corpus.splits["test"]["label"]) == [2, 2]


def test_a_number_and_its_text_are_one_label_across_kinds_of_files(tmp_path: Path) -> None:
    train = write(tmp_path / "train.parquet", labelled([2, 10, 2]))
    validation = write(tmp_path / "validation.csv", labelled(["10", "2"]))
    corpus = load(train=train, validation=validation)
    assert list(corpus.splits["validation"]["label"]) == [1, 0]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_label_names_give_names_to_numbers_and_keep_their_order(
    tmp_path: Path, suffix: str
) -> None:
    path = write(tmp_path / f"rows{suffix}", labelled([1, 0, 1]))
    corpus = load(train=path, validation=path, label_names={"0": "spam", "1": "ham"})
    assert corpus.labels == ("spam", "ham")
    assert list(corpus.splits["train"]["label"]) == [1, 0, 1]


@pytest.mark.parametrize("names", [{"0": "ham"}, {"0": "ham", "1": "ham"}])
def test_label_names_must_name_every_label_and_no_two_alike(
    tmp_path: Path, names: dict[str, str]
) -> None:
    path = write(tmp_path / "rows.csv", labelled([1, 0, 1]))
    message = failure(train=path, validation=path, label_names=names)
    assert "dataset.label_names" in message
    assert "0, 1" in message


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_label_unknown_to_train_is_an_error_that_shows_the_rows(
    tmp_path: Path, split: str
) -> None:
    train = write(tmp_path / "train.csv", labelled(["a", "b", "a"]))
    wrong = write(tmp_path / "wrong.csv", labelled(["a", "B", "b", "c"]))
    good = {"validation": train, "test": train}
    message = failure(train=train, **good | {split: wrong})
    assert "2 of the 4 rows" in message
    assert split in message
    assert "row 2: label 'B', text 'text 1'" in message
    assert "row 4: label 'c', text 'text 3'" in message
    assert "it has a, b" in message
    assert "row 1:" not in message


def test_a_label_that_validation_lacks_is_no_error(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", labelled(["a", "b", "c"]))
    validation = write(tmp_path / "validation.csv", labelled(["a", "b"]))
    assert load(train=train, validation=validation).labels == ("a", "b", "c")


# What cannot be read ------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "other"), [("text", "label"), ("label", "text")])
def test_a_missing_column_is_an_error_that_lists_the_columns(
    tmp_path: Path, key: str, other: str
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"{other},sentence,stars\na,b,c\n", encoding="utf-8")
    message = failure(train=path, validation=path)
    assert f"dataset.{key}='{key}'" in message
    assert f"{other}, sentence, stars" in message
    assert str(path) in message


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ([("fine", "a"), ("", "b")], "an empty text"),
        ([("fine", "a"), (" \t ", "b")], "an empty text"),
        ([("fine", "a"), (None, "b")], "an empty text"),
        ([("fine", "a"), ("fine too", None)], "no label"),
        ([("fine", "a"), ("fine too", "")], "no label"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_an_empty_cell_is_an_error_that_shows_the_row(
    tmp_path: Path, suffix: str, rows: Rows, what: str
) -> None:
    path = write(tmp_path / f"rows{suffix}", rows)
    message = failure(train=path, validation=path)
    assert f"1 of the 2 rows of {path} (train) has {what}" in message
    assert "row 2:" in message


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_split_without_rows_is_an_error(tmp_path: Path, split: str) -> None:
    good = write(tmp_path / "good.csv", make_rows(10))
    empty = write(tmp_path / "empty.csv", [])
    splits = {"train": good, "validation": good, "test": good}
    assert f"The {split} split ({empty}) has no rows" in failure(**splits | {split: empty})


def test_one_single_class_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", labelled(["same", "same", "same"]))
    message = failure(train=path, validation=path)
    assert "'same'" in message
    assert "at least two" in message


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_labels_with_a_fraction_are_scores_unless_classes_are_asked_for(
    tmp_path: Path, suffix: str
) -> None:
    path = write(tmp_path / f"rows{suffix}", labelled([0.5, 1.5, 3.0]))
    corpus = load(train=path, validation=path)
    assert corpus.problem is REGRESSION
    assert corpus.references("train").tolist() == [0.5, 1.5, 3.0]
    corpus = load(train=path, validation=path, problem="single_label")
    assert corpus.labels[:2] == ("0.5", "1.5") or corpus.labels[1:] == ("0.5", "1.5")
    assert corpus.references("train").dtype == np.int64


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_floats_that_are_all_whole_are_asked_about(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"rows{suffix}", labelled([0.0, 1.0, 1.0]))
    message = failure(train=path, validation=path)
    assert "dataset.problem=single_label or dataset.problem=regression" in message
    scores = load(train=path, validation=path, problem="regression")
    assert scores.references("train").tolist() == [0, 1, 1]
    assert scores.labels == ("score",)
    classes = load(train=path, validation=path, problem="single_label")
    assert classes.references("train").tolist() == [0, 1, 1]
    # Integers are classes, unless they are said to be scores.
    path = write(tmp_path / f"whole{suffix}", labelled([0, 1, 5]))
    assert load(train=path, validation=path).problem is SINGLE_LABEL
    scores = load(train=path, validation=path, problem="regression")
    assert scores.references("train").tolist() == [0, 1, 5]


def test_a_score_that_is_no_number_is_an_error_that_shows_the_row(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", labelled([0.5, 1.5, 2.5]))
    for bad in ("high", "nan", "inf", "1,5"):
        wrong = write(tmp_path / "wrong.csv", labelled([0.5, bad]))
        message = failure(train=train, validation=wrong)
        assert "1 of the 2 rows" in message
        assert "row 2" in message
        assert repr(bad) in message


def test_the_same_score_everywhere_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", labelled([0.5, 0.5]))
    assert "nothing to learn" in failure(train=path, validation=path)


SEVERAL = [["b"], [], ["c", "a"], ["a", "b", "c"]]
AS_COLUMNS = [[0, 1, 0], [0, 0, 0], [1, 0, 1], [1, 1, 1]]


def several(kind: str, folder: Path) -> dict[str, Any]:
    """The same labels, in each of the ways that a file may hold them."""
    texts = [f"text {i}" for i in range(len(SEVERAL))]
    match kind:
        case "list":
            pq.write_table(pa.table({"text": texts, "label": SEVERAL}), folder / "rows.parquet")
            return {"train": folder / "rows.parquet"}
        case "ClassLabel":
            ids = [["abc".index(label) for label in labels] for labels in SEVERAL]
            table = Dataset.from_dict({"text": texts, "label": ids})
            table = table.cast_column("label", List(ClassLabel(names=list("abc"))))
            table.to_parquet(folder / "rows.parquet")
            return {"train": folder / "rows.parquet"}
        case "cell":
            rows = [(text, " | ".join(labels)) for text, labels in zip(texts, SEVERAL, strict=True)]
            return {"train": write(folder / "rows.csv", rows), "delimiter": "|"}
        case _:
            columns = {name: [row[i] for row in AS_COLUMNS] for i, name in enumerate("abc")}
            if kind == "words":
                columns = {n: [bool(cell) for cell in cells] for n, cells in columns.items()}
            pq.write_table(pa.table({"text": texts, **columns}), folder / "rows.parquet")
            return {"train": folder / "rows.parquet", "label": ["a", "b", "c"]}


@pytest.mark.parametrize("kind", ["list", "ClassLabel", "cell", "columns", "words"])
def test_several_labels_a_text_may_stand_in_many_ways(tmp_path: Path, kind: str) -> None:
    keys = several(kind, tmp_path)
    corpus = load(**keys, validation=keys["train"])
    assert corpus.problem is MULTI_LABEL
    assert corpus.labels == ("a", "b", "c")
    assert corpus.references("train").tolist() == AS_COLUMNS
    assert corpus.references("train").dtype == np.float32


def test_a_column_that_is_neither_0_nor_1_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": ["x", "y"], "a": [0, 2], "b": [1, 0]}), path)
    message = failure(train=path, validation=path, label=["a", "b"])
    assert "'a'" in message
    assert "a: 1 of 2 rows (row 2: 2)" in message


def test_a_delimiter_for_lists_is_an_error(tmp_path: Path) -> None:
    path = several("list", tmp_path)["train"]
    assert "leave out dataset.delimiter" in failure(train=path, validation=path, delimiter=",")


def test_one_of_several_labels_that_train_does_not_have_is_an_error(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", labelled(["a|b", "b", ""]))
    wrong = write(tmp_path / "wrong.csv", labelled(["a|c", "b"]))
    message = failure(train=train, validation=wrong, delimiter="|")
    assert "1 of the 2 rows" in message
    assert "(it has a, b)" in message


@pytest.mark.parametrize("kind", ["cell", "scores"])
def test_cuts_of_the_other_problems_are_stratified_too(tmp_path: Path, kind: str) -> None:
    if kind == "cell":
        path = write(tmp_path / "rows.csv", labelled(["often|rare"] * 10 + ["often"] * 90))
        corpus = load(train=path, delimiter="|")
        for split, rows in (("train", 8), ("validation", 1), ("test", 1)):
            assert corpus.references(split)[:, 1].sum() == rows
    else:
        path = write(tmp_path / "rows.csv", labelled([i + 0.5 for i in range(100)]))
        corpus = load(train=path)
        for split in ("validation", "test"):
            assert sorted(corpus.references(split) // 10) == list(range(10))


def test_a_missing_file_and_an_unknown_kind_of_file_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", make_rows(10))
    missing = tmp_path / "nowhere.csv"
    message = failure(train=path, validation=missing)
    assert "dataset.validation" in message
    assert str(missing) in message
    strange = tmp_path / "rows.docx"
    strange.write_bytes(path.read_bytes())
    message = failure(train=strange)
    assert str(strange) in message
    assert ".csv, .tsv, .jsonl, .ndjson, .json, .parquet" in message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ragged.csv", b"text,label\na,x\nb,y,z\n"),
        ("ragged.tsv", b"text\tlabel\na\tx\nb\n"),
        ("empty.csv", b""),
        ("latin_text.csv", b"text,label\ncaf\xe9,x\n"),
        ("latin_header.csv", b"text,labell\xe9\na,x\n"),
        ("twice.csv", b"text,label,text\na,x,b\nc,y,d\n"),
        ("broken.jsonl", b'{"text": "a", "label": \n'),
        ("broken.parquet", b"PAR1 and then nothing"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert str(path) in failure(train=path, validation=path)


def test_files_of_one_split_whose_columns_do_not_fit_together_are_an_error(tmp_path: Path) -> None:
    write(tmp_path / "part-1.parquet", labelled([0, 1]))
    write(tmp_path / "part-2.parquet", labelled(["no", "yes"]))
    assert "dataset.train" in failure(train=tmp_path / "part-*.parquet")


# Splits that are not there ------------------------------------------------------------------------


def test_a_missing_validation_split_is_cut_from_train_and_never_from_test(tmp_path: Path) -> None:
    rows = [(f"{text} {i}", label) for i, (text, label) in enumerate(make_rows(200))]
    train = write(tmp_path / "train.csv", rows)
    test = write(tmp_path / "test.csv", make_rows(40, seed=9))
    corpus = load(train=train, test=test, validation_fraction=0.2)
    assert rows_of(corpus, "test") == make_rows(40, seed=9)
    assert len(texts_of(corpus, "validation")) == 40
    # Every row of the file is in one of the two, none in both.
    assert sorted(rows_of(corpus, "train") + rows_of(corpus, "validation")) == sorted(rows)
    assert any("validation" in note for note in corpus.notes)


def test_the_cut_is_stratified_and_seeded(tmp_path: Path) -> None:
    rows = labelled(["a"] * 140 + ["b"] * 40 + ["c"] * 20)
    train = write(tmp_path / "train.csv", rows)
    test = write(tmp_path / "test.csv", labelled(["a"]))
    first, again, other = (load(seed=seed, train=train, test=test) for seed in (0, 0, 1))
    for corpus in (first, other):
        names = Counter(label for _, label in rows_of(corpus, "validation"))
        assert names == {"a": 14, "b": 4, "c": 2}
    assert texts_of(first, "validation") == texts_of(again, "validation")
    assert texts_of(first, "train") == texts_of(again, "train")
    assert set(texts_of(first, "validation")) != set(texts_of(other, "validation"))


def test_where_train_is_all_there_is_test_is_cut_as_well(tmp_path: Path) -> None:
    rows = labelled(["a", "b"] * 50)
    corpus = load(train=write(tmp_path / "rows.csv", rows))
    assert "test" in corpus.splits
    assert {split: len(texts_of(corpus, split)) for split in corpus.splits} == {
        "train": 80,
        "validation": 10,
        "test": 10,
    }
    together = [row for split in corpus.splits for row in rows_of(corpus, split)]
    assert sorted(together) == sorted(rows)


def test_with_train_and_validation_given_there_is_no_test(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", make_rows(40))
    corpus = load(train=path, validation=path)
    assert set(corpus.splits) == {"train", "validation"}
    assert "test" not in corpus.splits
    assert rows_of(corpus, "train") == make_rows(40)


def test_a_cut_leaves_train_a_row_of_every_label(tmp_path: Path) -> None:
    # The only row of a label is for learning it: tested without being learned, it is always wrong.
    rows = labelled(["a", "b"] * 20 + ["rare"])
    corpus = load(train=write(tmp_path / "rows.csv", rows))
    assert {label for _, label in rows_of(corpus, "train")} == {"a", "b", "rare"}


def test_too_few_rows_to_cut_from_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", labelled(["a", "b"]))
    assert "only 2 rows" in failure(train=path)


@pytest.mark.parametrize("kind", ["text", "number", "ClassLabel"])
@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_split_whose_labels_are_all_minus_one_counts_as_absent_and_is_named(
    tmp_path: Path, split: str, kind: str
) -> None:
    names = ["0", "1"]
    if kind == "ClassLabel":
        train = write_classes(tmp_path / "train.parquet", labelled(names * 20), names)
        secret = write_classes(tmp_path / "secret.parquet", labelled([-1] * 5), names)
    else:
        suffix = ".csv" if kind == "text" else ".parquet"
        train = write(tmp_path / f"train{suffix}", labelled([0, 1] * 20))
        secret = write(tmp_path / f"secret{suffix}", labelled([-1] * 5))
    corpus = load(**{"train": train, "validation": train, "test": train} | {split: secret})
    assert corpus.labels == ("0", "1")
    assert any(f"the {split} split" in note and "-1" in note for note in corpus.notes)
    if split == "test":
        assert "test" not in corpus.splits
    else:
        assert len(texts_of(corpus, "validation")) == 4
        assert len(texts_of(corpus, "train")) == 36


def test_minus_one_is_a_label_like_any_other_where_train_has_it(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", labelled([-1, 1, -1, 1]))
    all_negative = write(tmp_path / "test.csv", labelled([-1, -1]))
    corpus = load(train=train, validation=train, test=all_negative)
    assert corpus.labels == ("-1", "1")
    assert list(corpus.splits["test"]["label"]) == [0, 0]
    assert corpus.notes == ()


def test_a_train_split_without_labels_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", labelled([-1, -1]))
    assert "not labelled" in failure(train=path, validation=path)


def test_a_limit_takes_a_stratified_seeded_part_and_keeps_validation(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", labelled(["a"] * 90 + ["b"] * 30))
    whole = load(train=train)
    first, again, other = (load(seed=seed, train=train, limit=20) for seed in (0, 0, 1))
    assert Counter(label for _, label in rows_of(first, "train")) == {"a": 15, "b": 5}
    assert set(rows_of(first, "train")) <= set(rows_of(whole, "train"))
    for split in ("validation", "test"):
        assert rows_of(first, split) == rows_of(whole, split)
    assert texts_of(first, "train") == texts_of(again, "train")
    assert texts_of(first, "train") != texts_of(other, "train")
    assert load(train=train, limit=10_000).fingerprint == whole.fingerprint


@pytest.mark.parametrize("seed", range(5))
def test_a_stratified_part_has_its_size_all_labels_and_their_shares(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.choice(5, size=300, p=[0.5, 0.25, 0.15, 0.08, 0.02])
    distinct, counts = np.unique(labels, return_counts=True)
    for size in (1, 4, 5, 17, 100, 299, 300):
        part = stratified_part(labels, size, seed)
        assert len(np.unique(part)) == len(part) == size
        assert (np.diff(part) > 0).all()
        sizes = np.array([(labels[part] == label).sum() for label in distinct])
        quota = counts * size / len(labels)
        assert (sizes <= counts).all()
        if size >= len(distinct):
            assert (sizes >= 1).all()
        if (quota >= 1).all():
            assert (np.abs(sizes - quota) < 1).all()


# The fingerprint ----------------------------------------------------------------------------------


def test_the_fingerprint_stays_when_files_move(tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "other.csv"
    moved.parent.mkdir()
    path = write(tmp_path / "rows.csv", make_rows(20))
    before = load(train=path, validation=path).fingerprint
    path.rename(moved)
    assert load(train=moved, validation=moved).fingerprint == before


def _other_text(rows: Rows) -> Rows:
    return [*rows[:-1], (f"{rows[-1][0]}.", rows[-1][1])]


def _other_label(rows: Rows) -> Rows:
    return [*rows[:-1], (rows[-1][0], rows[0][1])]


def _other_names(rows: Rows) -> Rows:
    return [(text, label.replace("positive", "praise")) for text, label in rows]


@pytest.mark.parametrize("change", [_other_text, _other_label, _other_names])
def test_the_fingerprint_changes_with_a_text_a_label_or_a_label_name(
    tmp_path: Path, change: Callable[[Rows], Rows]
) -> None:
    rows = make_rows(20)
    path = write(tmp_path / "rows.csv", rows)
    before = load(train=path, validation=path).fingerprint
    write(path, change(rows))
    assert load(train=path, validation=path).fingerprint != before


def test_the_fingerprint_sees_every_split(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", make_rows(20))
    changed = write(tmp_path / "changed.csv", _other_text(make_rows(20)))
    splits = {"train": path, "validation": path, "test": path}
    fingerprints = {load(**splits).fingerprint}
    fingerprints |= {load(**splits | {split: changed}).fingerprint for split in splits}
    assert len(fingerprints) == 4


def test_rows_of_a_class_label_without_an_agreed_label_are_left_out_and_counted(
    tmp_path: Path,
) -> None:
    names = ["a", "b"]
    train = write_classes(tmp_path / "train.parquet", labelled(["a", -1, "b", "a", -1]), names)
    corpus = load(train=train, validation=train)
    assert texts_of(corpus, "train") == ["text 0", "text 2", "text 3"]
    count = "2 of the 5 rows"
    assert any(count in note and "train.parquet (train)" in note for note in corpus.notes)


# Whatever the labels are --------------------------------------------------------------------------

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
NAMES = NAMES.filter(lambda name: not is_blank(name))  # that is no label
CLASSES = st.lists(NAMES, min_size=2, max_size=12, unique=True) | st.lists(
    st.integers(-(10**6), 10**6), min_size=2, max_size=12, unique=True
)


@settings(deadline=None, max_examples=50)
@given(CLASSES, st.data())
def test_every_label_comes_back_as_it_was_written(classes: list[Any], data: st.DataObject) -> None:
    chosen = st.lists(st.sampled_from(classes), min_size=1, max_size=20)
    written = {"train": [*classes, *data.draw(chosen)], "validation": data.draw(chosen)}
    with tempfile.TemporaryDirectory() as folder:
        for split, labels in written.items():
            write(Path(folder) / f"{split}.parquet", labelled(labels))
        files = {split: Path(folder) / f"{split}.parquet" for split in written}
        corpus = load(**files, problem="single_label")
    assert sorted(corpus.labels) == sorted(map(str, classes))
    for split, labels in written.items():
        assert [label for _, label in rows_of(corpus, split)] == [str(label) for label in labels]
    assert [answers_of(corpus, split) for split in written] == [
        [str(label) for label in labels] for labels in written.values()
    ]


@settings(deadline=None, max_examples=50)
@given(st.lists(NAMES, min_size=1, max_size=6, unique=True), st.data())
def test_any_set_of_labels_comes_back_as_it_was_written(
    classes: list[str], data: st.DataObject
) -> None:
    some = st.sets(st.sampled_from(classes)).map(sorted)
    labels = [*([name] for name in classes), [], *data.draw(st.lists(some, max_size=10))]
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "rows.parquet", labelled(labels))
        corpus = load(train=path, validation=path)
    assert set(corpus.labels) == set(classes)
    names = [
        sorted(name for name, has in zip(corpus.labels, row, strict=True) if has)
        for row in corpus.references("train")
    ]
    assert names == labels


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=20, unique=True))
def test_every_score_comes_back_as_it_was_written(scores: list[float]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for kind in (".csv", ".jsonl", ".parquet"):
            path = write(Path(folder) / f"rows{kind}", labelled(scores))
            corpus = load(train=path, validation=path, problem="regression")
            assert corpus.references("train").tolist() == scores


def test_files_behind_a_url_are_read_and_named_by_it() -> None:
    remote = fsspec.filesystem("memory")
    for name in ("a", "b"):
        file = write_csv(Path(f"{name}.csv"), make_rows(20, seed=ord(name)))
        remote.pipe(f"/texts/{name}.csv", file.read_bytes())
    corpus = load_corpus(DatasetConfig(train="memory://texts/*.csv"), 0)
    assert sum(len(rows) for rows in corpus.splits.values()) == 40
    assert {*corpus.splits["train"]["source"]} == {f"memory://texts/{n}.csv" for n in "ab"}
    remote.pipe("/texts/c.csv", b"text,label\nfine,yes\n,no\n")
    for where, message in (
        ("memory://texts/c.csv", "memory://texts/c.csv"),  # an empty text
        ("memory://texts/none*.csv", "there is no such file"),
        ("memory://texts/none.csv", "none.csv"),
        ("nowhere://texts/a.csv", "Protocol not known: nowhere"),
    ):
        with pytest.raises(UserError) as refused:
            load_corpus(DatasetConfig(train=where), 0)
        assert refused.value.code is ExitCode.DATA
        assert message in str(refused.value)


def test_what_datasets_has_saved_is_opened_with_the_order_of_its_labels() -> None:
    rows = make_rows(20, seed=1)
    columns = {"text": [text for text, _ in rows], "label": [i % 2 for i in range(20)]}
    table = Dataset.from_dict(columns).cast_column("label", ClassLabel(names=["yes", "no"]))
    table.save_to_disk("one")
    DatasetDict({"train": table, "held_out": table.select(range(4))}).save_to_disk("both")
    one = load_corpus(DatasetConfig(train="one"), 0)
    both = load_corpus(DatasetConfig(name="both", test="held_out"), 0)
    assert one.labels == both.labels == ("yes", "no")
    assert len(both.splits["test"]) == 4
    with pytest.raises(UserError, match="has no split 'other'; it has train, held_out"):
        load_corpus(DatasetConfig(name="both", test="other"), 0)


def test_rows_of_a_cut_split_keep_their_place_in_the_file_and_their_id(tmp_path: Path) -> None:
    rows = [(f"text {i} of many", "ab"[i % 2], f"T-{i + 1}") for i in range(60)]
    with (tmp_path / "tickets.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label", "ticket"), *rows])
    path = str(tmp_path / "tickets.csv")
    corpus = load_corpus(DatasetConfig(train=path, id="ticket"), 1)
    for split, part in corpus.splits.items():
        for text, origin in zip(part["text"], corpus.origins(split), strict=True):
            row = int(text.split()[1]) + 1
            assert origin == {"file": path, "row": row, "id": f"T-{row}"}
    with pytest.raises(UserError, match="dataset.id='nr' is not a column"):
        load_corpus(DatasetConfig(train=path, id="nr"), 1)


def test_a_large_table_lies_in_a_file_that_nobody_sees_and_reads_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: Rows = [(f"text {i} of {i % 7}", "good" if i % 3 else "bad") for i in range(9_000)]
    config = DatasetConfig(train=str(write(tmp_path / "rows.parquet", rows)), limit=5_000)
    in_memory = load_corpus(config, 0)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr("nlp_transfer.data.formats.whole_table.MOST_IN_MEMORY", 1_000)
    before = pa.total_allocated_bytes()
    in_a_file = load_corpus(config, 0)
    held = pa.total_allocated_bytes() - before
    assert held < sum(len(text) for text, _ in rows) / 10  # of the texts, Arrow holds next to none
    assert not list((tmp_path / "temporary").iterdir())
    assert in_a_file.fingerprint == in_memory.fingerprint
    for split, there in in_memory.splits.items():
        assert in_a_file.splits[split].to_dict() == there.to_dict()


def test_a_large_table_is_read_into_memory_where_no_file_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: Rows = [(f"text {i}", "good" if i % 3 else "bad") for i in range(9_000)]
    config = DatasetConfig(train=str(write(tmp_path / "rows.parquet", rows)))
    monkeypatch.setattr("nlp_transfer.data.formats.whole_table.MOST_IN_MEMORY", 1_000)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    corpus = load_corpus(config, 0)
    assert sum(map(len, corpus.splits.values())) == 9_000


def test_rows_of_json_have_the_types_that_all_of_them_show_together(tmp_path: Path) -> None:
    """The first rows alone would say: no fields, integers, nothing."""
    rows = [{"text": f"text {i}", "label": i % 2, "more": None} for i in range(5_000)]
    rows += [{"text": "x", "label": 0.5, "more": "y", "last": 1}, {"text": "z", "label": 1}]
    for name, some in (("floats", rows), ("late", [{**row, "label": 1} for row in rows])):
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in some), encoding="utf-8")
        (source,) = read_files(str(file), "dataset.train")
        assert list(source.cells("label")) == [row["label"] for row in some]
        assert source.cells("more")[-3:] == [None, "y", None]
        assert source.cells("last")[-3:] == [None, 1, None]


def test_rows_that_were_chosen_from_a_dataset_are_read_in_their_order() -> None:
    rows = Dataset.from_dict({"text": [f"text {i}" for i in range(30)], "label": ["a", "b"] * 15})
    chosen = rows.select([*range(29, 3, -2), 2, 4, 6])
    config = DatasetConfig(name="python:data", train="train", validation="validation")
    corpus = load_corpus(config, 0, tables={"train": chosen, "validation": rows})
    assert corpus.splits["train"]["text"][:] == chosen["text"][:]
    assert answers_of(corpus, "train") == chosen["label"][:]
