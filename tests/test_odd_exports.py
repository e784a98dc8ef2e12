"""What annotation programs, surveys, spreadsheets, databases and web services write."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from odd_tables import (
    CSV,
    LABELS,
    RECORDS,
    ROWS,
    TEXTS,
    Odd,
    assert_read,
    assert_refused,
    labelled,
    lines,
    load,
)

from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.corpus import load_corpus
from nlp_transfer.data.faults import Faults
from nlp_transfer.data.formats.windows import as_tables
from nlp_transfer.data.labels.units import advice_about_scores
from nlp_transfer.data.splits import FoldRule
from nlp_transfer.errors import UserError
from nlp_transfer.quality.checks import label_findings
from nlp_transfer.quality.exports import dates_of_excel, second_headers
from nlp_transfer.quality.shared_columns import shared_columns
from nlp_transfer.quality.spelling import joined_labels, spelling
from nlp_transfer.reporting.conclusions import weakest_first
from nlp_transfer.utils.text import with_interval

ANSWERS = ["accept", "reject", "accept", "ignore", "reject", "accept"]
CHOICES = [json.dumps({"choices": [label, "new"]}) for label in LABELS]
VIEWER = {
    "features": [{"name": "text"}, {"name": "label"}],
    "rows": [{"row_idx": i, "row": row, "truncated_cells": []} for i, row in enumerate(RECORDS)],
}
PAGE = {"data": {"count": 6, "items": RECORDS, "links": [{"next": None}]}}
IN_ROW = {"text": "row.text", "label": "row.label"}
SOURCE = {"text": "_source.text", "label": "_source.label"}
MANY = [f"{word} {text}" for word in "abcdef" for text in TEXTS]  # 36


def document(value: Any) -> bytes:
    return json.dumps(value).encode()


READ = [
    Odd(
        "prodigy.jsonl",
        lines([{**row, "answer": a} for row, a in zip(RECORDS, ANSWERS, strict=True)]),
        {},
        LABELS,
        "says 2 'reject' and 1 'ignore': these rows are used as they are labelled",
    ),
    Odd("choices.jsonl", labelled([[y] for y in LABELS]), rows=LABELS, says="exactly one label"),
    Odd("viewer.json", document(VIEWER), IN_ROW, LABELS, "one JSON document of 6 rows"),
    Odd("page.json", document(PAGE), {}, LABELS, "one JSON document of 6 rows"),
    Odd("hits.jsonl", lines([{"_id": "1", "_source": row} for row in RECORDS]), SOURCE, LABELS),
    Odd("names.jsonl", labelled(CHOICES), {"problem": "single_label"}, CHOICES),
    Odd("no_such_sign.csv", CSV.encode(), {"delimiter": ";"}, LABELS, "between no labels"),
    Odd(
        "lines.jsonl",
        labelled(["a\nb", "a", "b"] * 2),
        {"delimiter": "\\n"},
        ["a, b", "a", "b"] * 2,
    ),
]
REFUSED = [
    Odd("studio.jsonl", labelled([*LABELS[:4], *CHOICES[4:]]), says="an object written as text"),
    Odd("all.jsonl", labelled(CHOICES), says="an object written as text"),
    Odd("python.jsonl", labelled(["{'choices': ['a']}", "b"] * 3), says="an object written as"),
    Odd("spans.jsonl", labelled(['[{"start": 0}]', "a"] * 3), says="an object written as text"),
    Odd("delimited.jsonl", labelled(CHOICES), {"delimiter": ","}, says="an object written as text"),
    Odd("entities.jsonl", labelled([[[0, 4, "PER"]]] * 6), says="A list holds texts or numbers"),
    Odd(
        "nested.jsonl",
        labelled([[{"id": "x", "result": [{"value": {"choices": [y]}}]}] for y in LABELS]),
        says="The texts are in row['label'][0]['result'][0]['value']['choices']: write these",
    ),
    Odd("viewer.json", document(VIEWER), says="the tables 'features', 'rows'"),
    Odd("pages.json", document({"train": RECORDS, "test": RECORDS}), says="'train', 'test'"),
    Odd(
        "half.jsonl",
        lines(RECORDS).replace(b"fine film", b"fine \\ud83d"),
        says="line 1: \\ud83d is half of a character",
    ),
    Odd(
        "percent.jsonl",
        labelled([f"{i}%" for i in range(36)], MANY),
        says="digits and a decimal point alone (1200.5), and set dataset.problem=regression",
    ),
    Odd(
        "counts.jsonl",
        labelled([str(7 * i) for i in range(36)], MANY),
        says="If they are scores, set dataset.problem=regression",
    ),
    Odd(
        "units.jsonl",
        labelled([f"{i} kg" for i in range(36)], MANY),
        {"problem": "regression"},
        says="digits and a decimal point alone",
    ),
    Odd("one_label.csv", CSV.replace("bad", "good").encode(), says="Every row of train has the"),
    Odd("one_row.csv", CSV.split("dull", maxsplit=1)[0][:26].encode(), says="Every row of train"),
]


@pytest.mark.parametrize("odd", READ, ids=lambda odd: odd.name)
def test_an_export_is_read_as_it_is_meant(odd: Odd, tmp_path: Path) -> None:
    assert_read(odd, tmp_path)


@pytest.mark.parametrize("odd", REFUSED, ids=lambda odd: odd.name)
def test_an_export_that_cannot_be_meant_is_one_error(odd: Odd, tmp_path: Path) -> None:
    assert_refused(odd, tmp_path)


def split_files(folder: Path, train: bytes, test: bytes) -> DatasetConfig:
    (folder / "train.jsonl").write_bytes(train)
    (folder / "test.jsonl").write_bytes(test)
    return DatasetConfig(train=f"{folder}/train.jsonl", test=f"{folder}/test.jsonl")


@pytest.mark.parametrize("label", ["GOOD", "0.0", "other", "1,5"])
def test_a_split_of_unknown_labels_alone_is_one_error_where_faults_are_gathered(
    label: str, tmp_path: Path
) -> None:
    config = split_files(tmp_path, labelled(LABELS), labelled([label] * 6))
    faults = Faults(own=False)  # as `nlp-transfer check` has it
    with pytest.raises(UserError, match="No row of the test split is left"):
        load_corpus(config, 0, faults=faults)
    with pytest.raises(UserError, match="6 of the 6 rows of .* have a label that train does not"):
        faults.refuse()


@pytest.mark.parametrize("rows", [1, 3])
def test_a_single_label_is_said_before_folds_are_made(rows: int, tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_bytes(labelled(["good"] * rows, TEXTS[:rows]))
    with pytest.raises(UserError, match="Every row of train has the label 'good'"):
        load_corpus(DatasetConfig(train=str(file)), 0, fold_rule=FoldRule("auto", True))


def test_labels_that_a_held_out_split_lacks_are_named(tmp_path: Path) -> None:
    config = split_files(tmp_path, labelled(LABELS * 2, MANY[:12]), labelled(["good"], ["a b"]))
    sentences = [finding.sentence for finding in label_findings(load_corpus(config, 0))]
    assert "No row of test has the label bad: its figures say nothing about it." in sentences


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.csv", "b.csv"], r"name its files, as in '.*/\*\.csv'"),
        (["a.jsonl"], r"as in '.*/\*\.jsonl'"),
        (["test.csv", "train.csv"], "it holds test.csv, train.csv"),
        (["a.csv", "b.parquet"], "it holds a.csv, b.parquet"),
        (["notes.md"], "it holds no table"),
    ],
)
def test_a_folder_is_answered_with_its_files(
    names: list[str], expected: str, tmp_path: Path
) -> None:
    for name in names:
        (tmp_path / name).write_text(CSV, encoding="utf-8")
    with pytest.raises(UserError, match=expected):
        load_corpus(DatasetConfig(train=str(tmp_path)), 0)


def test_a_file_as_the_name_of_a_dataset_is_answered_with_the_option(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV, encoding="utf-8")
    with pytest.raises(UserError, match="is a file: type dataset.train="):
        load_corpus(DatasetConfig(name=f"{tmp_path}/a.csv"), 0)


@pytest.mark.parametrize("label", ["\\N", "(null)", "[NULL]", "#REF!", "#VALUE!", "Loading..."])
def test_cells_that_programs_write_for_nothing_are_named(label: str) -> None:
    sentences = [finding.sentence for finding in spelling({"good": 20, "bad": 20, label: 9})]
    assert any(f"Programs write {label!r} (9)" in sentence for sentence in sentences)


@pytest.mark.parametrize("sign", ["#", "\n"])
def test_signs_between_labels_of_exports_are_named(sign: str) -> None:
    (finding,) = joined_labels({f"a{sign}b": 2, "a": 9, "b": 9, "C#": 3})
    assert f"dataset.delimiter={sign!r}" in finding.sentence


UNITS = ["{}%", "{},5 %", "${},200.50", "{} €", "{}/100", "{}.5 kg", "{}\u00a0000", "{} points"]
NAMES = ["class {}", "Q{}", "J{}.1", "{}-Jan", "2024-01-{}", "area {} km"]


@pytest.mark.parametrize("form", UNITS)
def test_numbers_with_units_are_taken_for_scores(form: str) -> None:
    labels = [form.format(i) for i in range(10, 30)]
    assert "They look like scores" in advice_about_scores(labels)
    assert advice_about_scores(labels[:5]) == ""  # few may be steps of a scale


@pytest.mark.parametrize("form", NAMES)
def test_names_with_numbers_are_no_scores(form: str) -> None:
    assert advice_about_scores([form.format(i) for i in range(10, 30)]) == ""


@pytest.mark.parametrize(
    ("form", "finds"),
    [
        ("__label__{label} {text}", True),
        ("{text} ({label})", True),
        ("{text} #{label}", True),
        ("{text} {label}ness", False),
        ("good or bad: {text}", False),
        ("{text}", False),
    ],
)
def test_labels_inside_the_texts_are_found(form: str, finds: bool, tmp_path: Path) -> None:
    texts = [form.format(text=text, label=label) for text, label in ROWS]
    findings = list(shared_columns(load(Odd("rows.jsonl", labelled(LABELS, texts)), tmp_path)))
    assert [finding.check for finding in findings] == ["labels in texts"] * finds


@pytest.mark.parametrize(("same", "finds"), [(6, True), (3, False)])
def test_pairs_of_one_text_are_found(same: int, finds: bool, tmp_path: Path) -> None:
    rows = [{**row, "other": row["text"] if i < same else "x"} for i, row in enumerate(RECORDS)]
    corpus = load(Odd("rows.jsonl", lines(rows), {"text_pair": "other"}), tmp_path)
    assert [finding.check for finding in shared_columns(corpus)] == ["same texts"] * finds


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (["a", "b", "c", "d"], "No label of train has rows in two of 2 folds"),
        (["a", "a", "b", "b", "c"], "all rows of 'c' are in one fold: where it is held"),
        (["a", "a", "b", "b", "a"], ""),
    ],
)
def test_labels_that_cross_validation_cannot_answer_are_said(
    labels: list[str], says: str, tmp_path: Path
) -> None:
    file = tmp_path / "train.jsonl"
    file.write_bytes(labelled(labels, TEXTS[: len(labels)]))
    config, rule = DatasetConfig(train=str(file)), FoldRule("2", True)
    if says.startswith("No label"):
        with pytest.raises(UserError, match=says):
            load_corpus(config, 0, fold_rule=rule)
        return
    notes = "\n".join(load_corpus(config, 0, fold_rule=rule).notes)
    assert says in notes
    assert says or "in one fold" not in notes


def test_the_weakest_labels_are_measured_ones() -> None:
    classes = [{"f1": f1, "support": rows} for f1, rows in ((0.0, 0), (0.9, 5), (0.2, 1), (0.0, 0))]
    assert [row["f1"] for row in weakest_first(classes)] == [0.2, 0.9, 0.0, 0.0]


@pytest.mark.parametrize(
    ("value", "between", "words"),
    [
        (1.2e-11, None, "1.2e-11"),
        (1.2e-11, [1e-12, 2e-11], "1.2e-11 [1.0e-12, 2.0e-11]"),
        (0.0, [0.0, 0.0], "0.000 [0.000, 0.000]"),
        (0.0001, [0.0, 0.01], "0.000 [0.000, 0.010]"),
        (None, None, "undefined"),
        (None, [0.1, 0.2], "undefined [0.100, 0.200]"),
    ],
)
def test_figures_of_tiny_scores_are_not_shown_as_zero(
    value: float | None, between: list[float] | None, words: str
) -> None:
    figures = {"metrics": {"mse": value}, "intervals": {"mse": between}}
    assert with_interval("mse", figures) == words


@pytest.mark.parametrize(
    ("first", "later", "message"),
    [
        ({"n": None}, {"m": 1}, "Row 3 has 'm', which none of the first"),
        ({"n": 1}, {"n": 0.5}, "Row 3, column 'n': found 0.5, where row 1 has 1."),
        ({"n": [1]}, {"n": [0.5]}, "Row 3, column 'n': found [0.5], where row 1 has [1]."),
        ({"n": {"x": 1}}, {"n": {"y": 2}}, "found {'y': 2}, where row 1 has {'x': 1}."),
        ({"n": None}, {"n": "x"}, "found 'x', where the first 4,096 rows have nothing."),
    ],
)
def test_what_an_answered_table_cannot_hold_whole_is_named_by_row(
    first: dict[str, Any], later: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as refusal:
        list(as_tables([[first, first], [later]]))
    assert message in str(refusal.value)


def test_integers_fit_into_an_answered_column_of_decimals() -> None:
    tables = list(as_tables([[{"n": 0.5, "o": {"x": [1.5]}}], [{"n": 1, "o": {"x": [2]}}, {}]]))
    assert tables[1].to_pylist() == [{"n": 1.0, "o": {"x": [2.0]}}, {"n": None, "o": None}]


def test_dates_that_excel_made_of_labels_are_named() -> None:
    counts = {"1-20": 9, "4-7": 8, "2-Jan": 7, "Mar-03": 6}
    sentences = [f.sentence for f in dates_of_excel(counts)]
    assert "'2-Jan' (7), 'Mar-03' (6)" in sentences[0]
    assert not list(dates_of_excel({"1-2": 5, "May": 4, "January-03": 3, "2026-01-02": 5}))
    assert not list(dates_of_excel({"2-Jan": 5, "3-Jan": 4}))


def test_a_second_header_of_a_survey_is_named(tmp_path: Path) -> None:
    ids = ['{"ImportId":"QID1_TEXT"}', "{'ImportId': 'QID2'}"]
    train = labelled([*LABELS, "a", "b"], [*TEXTS, *ids])
    corpus = load_corpus(split_files(tmp_path, train, labelled(LABELS)), 0)
    [finding] = second_headers(corpus)
    assert "2 texts of a second header, as Qualtrics writes it" in finding.sentence
    assert [row.partition(" (")[0][:12] for row in finding.rows] == ["train: row 7", "train: row 8"]


def test_pairs_that_are_swapped_are_named_in_each_split(tmp_path: Path) -> None:
    def pairs(*rows: tuple[str, str, str]) -> bytes:
        return lines([{"text": a, "text_pair": b, "label": y} for a, b, y in rows])

    train = pairs(("a one", "b two", "yes"), ("B two.", "A one", "no"), ("c c", "c c", "yes"))
    test = pairs(("b two", "a one", "no"), ("d", "e", "yes"), ("c c", "c c", "yes"))
    config = replace(
        split_files(tmp_path, train, test), text_pair="text_pair", validation_fraction=0.0
    )
    found = {f.sentence for f in shared_columns(load_corpus(config, 0)) if "swapped" in f.check}
    assert len(found) == 2
    swapped = "rows of train are a pair of train with its texts swapped, 1 of them with another"
    assert any(swapped in sentence for sentence in found)
    assert any("1 of the 3 rows of test" in s and "measure memory" in s for s in found)
